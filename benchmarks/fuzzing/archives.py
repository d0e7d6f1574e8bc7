"""Mutate archives of arrays and of images, and images, member by member."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

from benchmarks.fuzzing.text import INTEGERS, STRINGS, mutated_bytes

__all__ = ["mutated_array", "mutated_image", "mutated_image_archive", "mutated_npz"]

TYPES = (
    "|O",
    "<f2",
    "<f4",
    "<f8",
    "<i8",
    "|u1",
    "|b1",
    "<c8",
    "|S4",
    "<U9",
    "<U999999999",
    "|V0",
    "<M8[ns]",
    "|V8",
    "?",
)
"""Element types of arrays, some of them impossible for samples."""

Mutation = Callable[[bytes, Random], bytes]

PNG = b"\x89PNG\r\n\x1a\n"


def mutated_array(data: bytes, rng: Random) -> bytes:
    """Change type, shape or order in the header of an .npy file, or its bytes."""
    if rng.random() < 0.3 or data[:6] != b"\x93NUMPY":
        return mutated_bytes(data, rng)
    length = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        start = header.index("'descr': ") + 9
        header = f"{header[:start]}'{rng.choice(TYPES)}'{header[header.index(',', start) :]}"
    elif kind == 1:
        sizes = tuple(rng.choice(INTEGERS) for _ in range(rng.choice((0, 1, 1, 2, 4, 5, 40))))
        start = header.index("'shape': ") + 9
        header = f"{header[:start]}{sizes}{header[header.index(')', start) + 1 :]}"
    elif kind == 2:
        header = header.replace("False", rng.choice(("True", "None", "1", "'x'")))
    elif kind == 3:
        header = mutated_bytes(header.encode("latin-1"), rng).decode("latin-1")
    elif kind == 4:
        body = mutated_bytes(body, rng)
    else:
        body = body[: rng.randrange(len(body) + 1)]
    coded = header.encode("latin-1")
    return data[:8] + struct.pack("<H", len(coded) % 65536) + coded + body


def mutated_npz(data: bytes, rng: Random) -> bytes:
    """Change one member of an .npz file, or the archive."""
    return _mutated_archive(data, rng, mutated_array)


def mutated_image_archive(data: bytes, rng: Random) -> bytes:
    """Change one member of a zip of images, or the archive."""
    return _mutated_archive(data, rng, mutated_image)


def _mutated_archive(data: bytes, rng: Random, mutated_member: Mutation) -> bytes:
    if rng.random() < 0.3:
        return mutated_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = rng.randrange(len(members))
    name, content = members[place]
    kind = rng.randrange(7)
    if kind < 3:
        members[place] = (name, mutated_member(content, rng))
    elif kind == 3:
        members[place] = (rng.choice((*STRINGS, "images.npy", "input:x.npy", "labels.npy", "0/a.png")) or "x", content)
    elif kind == 4:
        del members[place]
    elif kind == 5:
        members += [(f"{index}{name}", content) for index in range(rng.choice((1, 3, 200)))]
    else:
        members[place] = (name, bytes(rng.choice((0, 10, 10**6))))
    stream = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name.replace("\x00", "_"), content)
    packed = stream.getvalue()
    return mutated_bytes(packed, rng) if rng.random() < 0.15 else packed


def mutated_image(data: bytes, rng: Random) -> bytes:
    """Change a chunk of a PNG file, with the checksum that belongs to it; the bytes of every other format."""
    if data[:8] != PNG or rng.random() < 0.3:
        return mutated_bytes(data, rng)
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    choice = rng.randrange(6)
    if choice == 0:
        kind, head = b"IHDR", chunks[0][1]
        sizes = struct.pack(">II", *(rng.choice(INTEGERS) % 2**32 for _ in range(2)))
        chunks[0] = (kind, sizes + head[8:])
    elif choice == 1:
        depth, colour = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1))
        chunks[0] = (b"IHDR", chunks[0][1][:8] + bytes((depth, colour)) + chunks[0][1][10:])
    elif choice == 2:
        del chunks[place]
    elif choice == 3:
        chunks.insert(place, (rng.choice((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"eXIf", kind)), content))
    else:
        chunks[place] = (kind, mutated_bytes(content, rng))
    return PNG + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
