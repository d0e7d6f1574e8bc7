"""Batches of one size in device memory."""

import ctypes

import numpy as np
import pytest
from dfq_deploy.calibrators.tensorrt_batches import DeviceBatches, equal_batches
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import Feeds


def rows(*numbers: int) -> Feeds:
    return {"x": np.array(numbers, np.float32)[:, None], "size": np.arange(7)}


def at(address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The float32 array at an address of host memory."""
    memory = (ctypes.c_float * int(np.prod(shape))).from_address(address)
    return np.array(list(memory), np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("lengths", "size", "expected"),
    [
        ([4, 4], None, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ([4, 2], None, [[0, 1, 2, 3], [4, 5, 0, 1]]),  # filled up from the front
        ([4, 2, 4], None, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]),  # a short batch in between
        ([5], 2, [[0, 1], [2, 3], [4, 0]]),  # the model's own batch
        ([1, 1, 1], 3, [[0, 1, 2]]),
        ([2], 5, [[0, 1, 0, 1, 0]]),  # fewer than one batch
        ([0, 3], None, [[0, 1, 2]]),
    ],
)
def test_batches_are_of_one_size_and_leave_nothing_out(
    lengths: list[int], size: int | None, expected: list[list[int]]
) -> None:
    numbers = iter(range(100))
    batches = [rows(*(next(numbers) for _ in range(length))) for length in lengths]
    found = list(equal_batches(batches, "x", size))
    assert [batch["x"][:, 0].tolist() for batch in found] == expected
    assert all(batch["size"].tolist() == list(range(7)) for batch in found)


@pytest.mark.parametrize("batches", [[], [{}], [{"x": np.zeros((0, 1), np.float32)}]])
def test_no_samples_are_refused(batches: list[Feeds]) -> None:
    with pytest.raises(SamplesError, match=r"^samples: none to calibrate with; at least one is needed$"):
        list(equal_batches(batches, "x"))


def test_samples_for_another_input_are_refused() -> None:
    with pytest.raises(SamplesError, match=r"^samples: no batch for input 'image'; fed size, x$"):
        list(equal_batches([rows(1)], "image"))


def test_addresses_lead_to_the_samples_in_the_order_of_the_names() -> None:
    first, second = (np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 100 * i for i in range(2))
    batches = [{"a": array.transpose(0, 2, 1), "b": -array} for array in (first, second)]
    device = DeviceBatches(batches, "a", "cpu")
    assert (device.size, device.shapes) == (2, {"a": (2, 4, 3), "b": (2, 3, 4)})
    for array in (first, second):
        addresses = device.advance(["b", "a"])
        assert addresses is not None
        np.testing.assert_array_equal(at(addresses[0], (2, 3, 4)), -array)
        np.testing.assert_array_equal(at(addresses[1], (2, 4, 3)), array.transpose(0, 2, 1))
    assert device.advance(["b", "a"]) is None
    assert device.advance(["b", "a"]) is None


def test_an_input_that_is_not_fed_is_refused() -> None:
    with pytest.raises(SamplesError, match=r"^samples: nothing for input 'mask'; fed size, x$"):
        DeviceBatches([rows(1)], "x", "cpu").advance(["x", "mask"])
