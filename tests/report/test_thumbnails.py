"""Pictures of samples."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dfq_deploy.report.thumbnails import thumbnails
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

UNITS = Preprocess((0.0,), (1.0,))


def test_small_pictures_are_enlarged_without_loss() -> None:
    images = np.zeros((3, 3, 16, 16), np.float32)
    images[2, 0] = 1.0
    (only,) = thumbnails(Samples(images), UNITS, [2])
    picture = Image.open(BytesIO(only))
    assert (picture.format, picture.size) == ("WEBP", (144, 144))
    assert np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist() == [[255, 0, 0]] * 144**2


@pytest.mark.parametrize("shape", [(3, 224, 320), (224, 320, 3), (1, 224, 320)])
def test_large_pictures_are_reduced(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(np.float32)
    found = thumbnails(Samples(images), UNITS, [0, 1])
    assert [Image.open(BytesIO(one)).size for one in found] == [(144, 101)] * 2
    assert max(map(len, found)) < 20_000


def test_what_is_no_picture_has_none() -> None:
    assert thumbnails(Samples(np.zeros((4, 7), np.float32)), None, [0]) == ()
    assert thumbnails(Samples(np.zeros((4, 3, 8, 8), np.float32)), None, []) == ()
