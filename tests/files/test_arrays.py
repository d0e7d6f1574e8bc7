"""Large arrays lie in files, and their pages leave the process when they are released."""

import gc
import hashlib
import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dfq_deploy.files import arrays
from dfq_deploy.files.arrays import allocate, digest, equal, is_mapped, release, release_at
from dfq_deploy.refinement.block_values import release_all

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system keeps the pages")

SIZE = 2**25


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="sizes are read from /proc")
def test_released_pages_leave_the_process_and_keep_their_values() -> None:
    array = allocate((SIZE // 4,))
    tensor = torch.from_numpy(array).reshape(2, -1)
    address = tensor.untyped_storage().data_ptr()
    drops: list[Callable[[], None]] = [
        partial(release, array),
        partial(release_at, address),
        partial(release_all, tensor[:, 3:]),
    ]
    for drop in drops:
        tensor.fill_(7)
        full = resident()
        drop()
        assert resident() < full - SIZE // 2
        assert float(tensor[1, -1]) == 7


def test_what_is_not_mapped_is_left_alone() -> None:
    array = np.ones(4, np.float32)
    release(array)
    release_at(array.ctypes.data)
    assert not is_mapped(array)
    assert array.tolist() == [1, 1, 1, 1]


def test_an_array_that_is_gone_is_forgotten() -> None:
    array = allocate((SIZE // 4,))
    address = array.ctypes.data
    assert is_mapped(array)
    assert address in arrays._allocated
    del array
    gc.collect()
    assert address not in arrays._allocated


def test_the_digest_is_that_of_all_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(5000, dtype=np.float32).reshape(50, 100)
    expected = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    for limit in (arrays.IN_MEMORY, 0):
        monkeypatch.setattr(arrays, "IN_MEMORY", limit)
        monkeypatch.setattr(arrays, "BLOCK", 2**12)
        array = allocate(values.shape)
        array[:] = values
        assert digest(array) == expected
    assert digest(values[:, ::2]) == hashlib.sha256(values[:, ::2].tobytes()).hexdigest()[:16]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="sizes are read from /proc")
def test_large_arrays_are_compared_without_keeping_them() -> None:
    one, other = allocate((2**9, SIZE // 2**11)), allocate((2**9, SIZE // 2**11))
    one[:], other[:] = 1, 1
    release(one)
    release(other)
    before = resident()
    assert equal(one, other)
    assert resident() - before < SIZE // 2
    other[-1, -1] = 2
    assert not equal(one, other)
    assert not equal(one, one[1:])
    assert equal(one, one)
