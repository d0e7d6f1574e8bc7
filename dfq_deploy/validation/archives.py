"""Open a zip archive within limits: its members, their declared sizes, their packing.

What a member declares bounds what is read of it: ``zipfile`` reads no further.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import one_line
from dfq_deploy.validation.bounds import bounds

__all__ = ["BROKEN", "check_member", "open_archive", "read_member"]

MOST_MEMBERS = 2**21
"""Members of an archive; all images of ImageNet are fewer."""

LEAST_ENTRY = 46
"""Bytes that each member takes in the directory of the archive."""

TAIL = 2**16 + 22 + 20 + 56
"""Bytes at the end that hold where the directory is: a comment, two records and a locator."""

PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that Python unpacks piece by piece; of the others a small piece can become any number of bytes."""

SUSPICIOUS, RATIO = 2**26, 100
"""Bytes of a member from which on more than so many bytes for each stored one are refused: images do not shrink so."""

BROKEN = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, KeyError, zipfile.BadZipFile, zlib.error)
"""What ``zipfile`` raises for archives that are damaged, encrypted, or packed in an unknown way."""


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading.

    Raises:
        ValueError: it is damaged, or has too many members.
    """
    try:
        count = _directory_bytes(path) // LEAST_ENTRY
        if count > MOST_MEMBERS:
            raise ValueError(f"a directory of up to {count:,} members, the limit is {MOST_MEMBERS:,}")
        archive = zipfile.ZipFile(path)
    except BROKEN as problem:
        raise ValueError(one_line(problem, 200) or type(problem).__name__) from None
    with archive:
        yield archive


def read_member(archive: zipfile.ZipFile, name: str, *, dense: bool = False) -> bytes:
    """Read a member, once :func:`check_member` has passed it.

    Raises:
        ValueError: it is refused, or damaged.
    """
    try:
        check_member(archive.getinfo(name), dense=dense)
        return archive.read(name)
    except BROKEN as problem:
        raise ValueError(one_line(problem, 200) or type(problem).__name__) from None


def check_member(member: zipfile.ZipInfo, *, dense: bool = False) -> None:
    """Check what a member declares, before it is read.

    Args:
        dense: the member is a file that is packed already, such as an image.

    Raises:
        ValueError: it is encrypted, packed in another way than by deflation, or takes more than the memory in
            :class:`.Bounds`.
    """
    name, size, memory = member.filename[:80], member.file_size, bounds().memory
    if member.flag_bits & 1:
        raise ValueError(f"'{name}' is encrypted; unpack the archive")
    if member.compress_type not in PACKINGS:
        raise ValueError(f"'{name}' is packed by method {member.compress_type}; store or deflate it")
    if size > memory:
        raise ValueError(f"'{name}' takes {size:,} bytes, the limit is {memory:,}; raise --max-memory if that is meant")
    if dense and size > SUSPICIOUS and size > RATIO * member.compress_size:
        raise ValueError(f"'{name}' unpacks from {member.compress_size:,} to {size:,} bytes, as no image does")


def _directory_bytes(path: Path) -> int:
    """The size of the directory as the end of the archive states it; 0 where there is no such end."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL))
        tail = stream.read(TAIL)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 16 > len(tail):
        return 0
    size = int(struct.unpack_from("<I", tail, end + 12)[0])
    long_end = tail.rfind(b"PK\x06\x06")
    if size == 2**32 - 1 and 0 <= long_end <= len(tail) - 48:
        size = int(struct.unpack_from("<Q", tail, long_end + 40)[0])
    return size
