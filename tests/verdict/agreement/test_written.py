"""Photographs with lines of text."""

import numpy as np
import pytest

from dfq_deploy import Samples
from dfq_deploy.verdict.agreement.written import suits_writing, written


def _grey(shape: tuple[int, ...] = (3, 96, 128), count: int = 6) -> Samples:
    """Pictures of one grey each, from black to white."""
    shades = np.linspace(-1, 1, count, dtype=np.float32).reshape(-1, 1, 1, 1)
    return Samples(np.broadcast_to(shades, (count, *shape)).copy())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 96, 128), True),
        ((1, 96, 128), True),
        ((96, 128, 3), True),
        ((3, 32, 32), False),
        ((3, 48, 320), False),
        ((4, 96, 128), False),
        ((96,), False),
    ],
)
def test_only_pictures_with_room_for_text_suit(shape: tuple[int, ...], expected: bool) -> None:
    assert suits_writing(Samples(np.zeros((1, *shape), np.float32))) is expected


@pytest.mark.parametrize("shape", [(3, 96, 128), (96, 128, 3)])
def test_text_is_written_into_each_picture_in_ink_that_shows(shape: tuple[int, ...]) -> None:
    plain = _grey(shape)
    found = written(plain).images
    assert found.shape == plain.images.shape
    assert found.dtype == np.float32
    changed = np.abs(found - plain.images)
    for picture in changed:
        assert picture.max() > 0.5
        assert 0.002 < (picture > 0.25).mean() < 0.5
    assert found.min() >= -1.001
    assert found.max() <= 1.001


def test_the_same_pictures_get_the_same_text_and_stay_as_they_are() -> None:
    plain = _grey()
    before = plain.images.copy()
    np.testing.assert_array_equal(written(plain).images, written(plain).images)
    np.testing.assert_array_equal(plain.images, before)
    assert not np.array_equal(written(plain, seed=1).images, written(plain).images)
