"""Orders of axes against NumPy: what is stored is what the graph means."""

import itertools

import numpy as np
import pytest
from dfq_deploy.exporters.litert.orders import CHANNELS_LAST, natural, permuted, reshaped, same_bytes, steps_between

from dfq_deploy.errors import ModelError

RESHAPES = [
    ((2, 6, 4, 5), (2, 6, 20), CHANNELS_LAST, True),
    ((2, 6, 4, 5), (2, 120), CHANNELS_LAST, False),
    ((2, 6, 1, 1), (2, 6), CHANNELS_LAST, True),
    ((2, 6, 4, 5), (2, 3, 2, 4, 5), CHANNELS_LAST, True),
    ((2, 3, 2, 4, 5), (2, 6, 4, 5), (0, 3, 4, 2, 1), False),
    ((2, 3, 2, 4, 5), (2, 6, 4, 5), (0, 3, 4, 1, 2), True),
    ((1, 1, 6), (6,), (0, 1, 2), True),
    ((6,), (1, 6, 1, 1), (0,), True),
    ((4, 6), (6, 4), (0, 1), True),
    ((2, 4, 6), (8, 6), (2, 0, 1), True),
]


@pytest.mark.parametrize(("source", "target", "order", "is_free"), RESHAPES)
def test_a_reshape_in_the_file_is_the_reshape_of_the_graph(
    source: tuple[int, ...], target: tuple[int, ...], order: tuple[int, ...], is_free: bool
) -> None:
    array = np.arange(np.prod(source)).reshape(source)
    before, after = reshaped(source, target, order)
    assert (before == order) == is_free
    stored = array.transpose(before).reshape(permuted(target, after))
    np.testing.assert_array_equal(stored, array.reshape(target).transpose(after))


def test_steps_lead_from_one_order_to_another() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for first, second in itertools.product(itertools.permutations(range(3)), repeat=2):
        moved = array.transpose(first).transpose(steps_between(first, second))
        np.testing.assert_array_equal(moved, array.transpose(second))


def test_axes_of_size_one_move_for_free() -> None:
    assert same_bytes((1, 8, 1, 1), natural(4), CHANNELS_LAST)
    assert not same_bytes((1, 8, 1, 2), natural(4), CHANNELS_LAST)


def test_a_shape_of_another_rank_is_refused() -> None:
    with pytest.raises(ModelError, match=r"states the shape \(4,\) for a tensor that its operator takes for one of 2"):
        permuted((4,), (0, 1))
    with pytest.raises(ModelError, match="one of 2 axes; export the model again"):
        same_bytes((4,), (0,), (0, 1))
