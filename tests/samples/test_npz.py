"""Hostile and damaged files of arrays are refused in one line that names the member."""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfq_deploy import Samples
from dfq_deploy.errors import SamplesError
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.npz import stored_shapes
from dfq_deploy.validation.bounds import Bounds, use_bounds

IMAGES = np.zeros((2, 3, 4, 4), np.float32)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def with_header(text: str, data: bytes = b"") -> bytes:
    """An .npy file of a header of one's own."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def archive(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(SamplesError, match=re.escape(words)) as caught:
        read_samples(path, None, (3, 4, 4))
    assert "\n" not in str(caught.value)
    with pytest.raises(SamplesError):
        Samples.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.array([{}], dtype=object)), "array 'images' holds Python objects, which are never read"),
        (npy(np.zeros(2, "M8[ns]")), "array 'images' holds datetime64[ns]: save numbers"),
        (npy(np.zeros(2, [("a", "f4")])), "array 'images' holds [('a', '<f4')]: save numbers"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "which no array has"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}"), "needs 324; the file is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': (((("), "no header of NumPy's format"),
        (b"no array at all", "no header of NumPy's format"),
        (npy(IMAGES)[:-1], "stores 383 bytes, but its shape (2, 3, 4, 4) of float32 needs 384"),
    ],
)
def test_the_header_of_a_member_is_checked(tmp_path: Path, content: bytes, words: str) -> None:
    refused(archive(tmp_path / "a.npz", {"images.npy": content}), words)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(SamplesError, match=r"a\.npy: its arrays cannot be read"):
        read_samples(tmp_path / "a.npy", None, (3, 4, 4))


def test_an_array_is_no_larger_than_the_memory(tmp_path: Path) -> None:
    """6 MB that hold 6 GB, in small."""
    bomb = archive(tmp_path / "a.npz", {"images.npy": npy(np.zeros((400, 3, 64, 64), np.float32))})
    assert bomb.stat().st_size < 40_000
    with use_bounds(Bounds(memory=2**20)):
        refused(bomb, "they take 19,660,928 bytes, the limit is 1,048,576: store fewer samples, or raise --max-memory")
        (tmp_path / "a.npy").write_bytes(
            with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40},)}}")
        )
        refused(tmp_path / "a.npy", "takes 4,398,046,511,104 bytes, the limit is 1,048,576")


def test_members_of_other_names_stay_unread(tmp_path: Path) -> None:
    members = {"images.npy": npy(IMAGES), "notes.txt": b"none", "more.npy": npy(np.zeros(2**21, np.float32))}
    with use_bounds(Bounds(memory=2**20)):
        assert len(read_samples(archive(tmp_path / "a.npz", members), None, (3, 4, 4))) == 2


def test_single_values_are_single_values(tmp_path: Path) -> None:
    for name, array, words in (
        ("format_version", np.array("1"), "'format_version' is an array () of <U1, not a single value"),
        ("synthetic", np.zeros(3, bool), "'synthetic' is an array (3,) of bool, not a single value"),
        ("mean", np.zeros((1, 3)), "'mean' is an array (1, 3) of float64, not a number a channel"),
        ("mean", np.zeros(2), "preprocess: 2 mean(s) and 3 std(s)"),
    ):
        members = {"images.npy": npy(IMAGES), "std.npy": npy(np.ones(3)), f"{name}.npy": npy(array)}
        refused(archive(tmp_path / "a.npz", members), words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_are_checked_as_well(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"images.npy": npy(IMAGES)}, zipfile.ZIP_LZMA)
    refused(path, "'images.npy' is packed by method 14; store or deflate it")
    with zipfile.ZipFile(path, "w") as opened:
        for _ in range(2):
            opened.writestr("images.npy", npy(IMAGES))
    refused(path, "array 'images' is in it twice")
    content = bytearray(archive(path, {"images.npy": npy(IMAGES)}, zipfile.ZIP_STORED).read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    refused(path, "array 'images' is damaged: Bad CRC-32")
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    refused(path, "a directory of up to 46,684,427 members, the limit is 2,097,152")


def test_shapes_are_read_from_headers_alone(tmp_path: Path) -> None:
    members = {"images.npy": npy(IMAGES), "input:mask.npy": npy(np.zeros((2, 5)))}
    assert stored_shapes(archive(tmp_path / "a.npz", members)) == {"": (3, 4, 4), "mask": (5,)}
    assert stored_shapes(archive(tmp_path / "b.npz", {"images.npy": b"none"})) == {}
