"""Read an array of NumPy's format, once its type and shape have been checked."""

import math
import tokenize
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.files.arrays import IN_MEMORY, allocate, blocks, release
from dfq_deploy.validation.bounds import bounds

__all__ = ["Header", "array_header", "read_array"]

KINDS = "biufU"
"""NumPy's letters of the element types that are read: booleans, numbers, text. Objects are pickles."""

MOST_AXES = 32


@dataclass(frozen=True)
class Header:
    """What the header of an array states; ``turned``: the first axis varies fastest."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    turned: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def array_header(stream: IO[bytes], name: str) -> Header:
    """Read the header of an array; the stream stands at its data then.

    Args:
        name: what errors call the array.

    Raises:
        ValueError: it is no array of NumPy's format, or holds something else than numbers, booleans or text.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"its format version is {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, turned, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as problem:
        words = " ".join(str(problem).split())[:120]
        raise ValueError(f"array '{name[:80]}' has no header of NumPy's format ({words})") from None
    if dtype.hasobject:
        raise ValueError(f"array '{name[:80]}' holds Python objects, which are never read: save numbers")
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ValueError(f"array '{name[:80]}' holds {str(dtype)[:40]}: save numbers")
    if len(shape) > MOST_AXES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"array '{name[:80]}' has the shape {str(shape)[:80]}, which no array has")
    return Header(shape, dtype, bool(turned))


def read_array(stream: IO[bytes], name: str, size: int) -> NDArray[Any]:
    """Read an array; a large one is kept on disk.

    Args:
        stream: at the start of the array; it can be read again from there.
        name: what errors call the array.
        size: bytes of the whole array, header included, as its container states it.

    Raises:
        ValueError: as :func:`array_header`; or it takes more than the memory in :class:`.Bounds`, or is cut short.
    """
    header, memory = array_header(stream, name), bounds().memory
    if header.nbytes > memory:
        raise ValueError(
            f"array '{name[:80]}' of shape {str(header.shape)[:80]} takes {header.nbytes:,} bytes, the limit is "
            f"{memory:,}: raise --max-memory if that is meant"
        )
    stored = size - stream.tell()
    if stored != header.nbytes:
        raise ValueError(
            f"array '{name[:80]}' stores {stored:,} bytes, but its shape {str(header.shape)[:80]} of {header.dtype} "
            f"needs {header.nbytes:,}; the file is damaged"
        )
    if header.nbytes > IN_MEMORY:
        return _on_disk(stream, header)
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _on_disk(stream: IO[bytes], header: Header) -> NDArray[Any]:
    array = allocate(header.shape[::-1] if header.turned else header.shape, header.dtype)
    for block in blocks(array):
        part = array[block]
        part[...] = np.frombuffer(stream.read(part.nbytes), header.dtype).reshape(part.shape)
        release(array)
    stream.read(1)  # at its end an archive compares the checksum
    return array.T if header.turned else array
