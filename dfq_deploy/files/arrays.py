"""Allocate an array, on disk if large, and read it without keeping it in memory."""

import errno
import hashlib
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dfq_deploy.errors import OutputError

__all__ = [
    "BLOCK",
    "IN_MEMORY",
    "allocate",
    "blocks",
    "copied",
    "digest",
    "equal",
    "is_mapped",
    "loaded",
    "release",
    "release_at",
    "selected",
]

IN_MEMORY = 2**23
"""Size in bytes above which an array is stored in an unnamed temporary file instead of in memory."""

BLOCK = 2**22
"""Size in bytes of the parts in which a large array is read."""

_allocated: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""The mapped files of :func:`allocate`, by the address of their first byte."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def allocate(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Allocate an uninitialised array; a large one is a memory-mapped file that is deleted with the array.

    Raises:
        OutputError: the temporary folder has no room for it.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, kind)
    try:
        with tempfile.TemporaryFile() as stream:
            _reserve(stream.fileno(), size)
            array = np.memmap(stream, kind, "w+", shape=shape)
    except OSError as problem:
        raise OutputError(
            f"cannot keep {size / 2**30:.2f} GiB in {tempfile.gettempdir()}: {problem.strerror or problem}; set TMPDIR "
            "to a folder with more room, or use fewer samples (--samples)"
        ) from None
    mapping = _mapping(array)
    assert mapping is not None
    _allocated[array.ctypes.data] = mapping
    return array


def _reserve(handle: int, size: int) -> None:
    """Reserve the blocks of a file: a mapped file on a full disk would end the process at its first write."""
    reserve = getattr(os, "posix_fallocate", None)  # macOS and Windows have none
    if reserve is None:
        return
    try:
        reserve(handle, 0, size)
    except OSError as problem:  # or a file system that cannot reserve
        if problem.errno in FULL:
            raise


def is_mapped(array: NDArray[Any]) -> bool:
    """True for an array, or a view of one, whose values lie in a file."""
    return _mapping(array) is not None


def blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Slices of at most :data:`BLOCK` bytes, or of one row, that cover the rows of an array in order."""
    step = max(1, BLOCK * len(array) // max(1, array.nbytes))
    return (slice(start, start + step) for start in range(0, len(array), step))


def loaded(part: NDArray[Any]) -> NDArray[Any]:
    """A part of an array in memory: a copy if it is mapped, whose pages are released, else the part itself."""
    if not is_mapped(part):
        return part
    copy = np.array(part)
    release(part)
    return copy


def selected(rows: NDArray[Any], index: slice | NDArray[Any]) -> NDArray[Any]:
    """Return ``rows[index]`` for a slice, indices or a mask.

    A slice of a mapped array is a copy in memory, unless it is large. Indices and masks give a copy, on disk if large.
    """
    if isinstance(index, slice):
        part = rows[index]
        return loaded(part) if part.nbytes <= IN_MEMORY else part
    indices = np.flatnonzero(index) if index.dtype == np.bool_ else index
    copy = allocate((len(indices), *rows.shape[1:]), rows.dtype)
    for block in blocks(copy):
        copy[block] = rows[indices[block]]
        release(rows)
        release(copy)
    return copy


def copied(rows: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A contiguous copy of an array, in another type where one is given; on disk if large."""
    copy = allocate(rows.shape, rows.dtype if dtype is None else dtype)
    for part in blocks(copy):
        copy[part] = rows[part]
        release(rows)
        release(copy)
    return copy


def equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two arrays hold the same values, read a block at a time."""
    if one is other:
        return True
    if one.shape != other.shape:
        return False
    return all(np.array_equal(loaded(one[part]), loaded(other[part])) for part in blocks(one))


def digest(array: NDArray[Any]) -> str:
    """The first 16 digits of the SHA-256 of the values of an array, read a block at a time."""
    found = hashlib.sha256()
    for part in blocks(array):
        found.update(np.ascontiguousarray(array[part]).data)
        release(array)
    return found.hexdigest()[:16]


def release(array: NDArray[Any]) -> None:
    """Take a mapped array out of this process' memory; its values stay in the file, and are read again when used."""
    _drop(_mapping(array))


def release_at(address: int) -> None:
    """Do what :func:`release` does for the large array of :func:`allocate` that begins at ``address``, if there is one.

    A torch tensor does not tell the array that it was made of, but where its memory begins.
    """
    _drop(_allocated.get(address))


def _drop(mapping: mmap.mmap | None) -> None:
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
