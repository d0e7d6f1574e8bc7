"""Photographs: any number from six files, in the public domain."""

import re

import numpy as np
import pytest
from PIL import Image

from dfq_deploy import Preprocess
from dfq_deploy.samples.photographs import JUDGING, photographs, suits_photographs

PIXELS = Preprocess((0.0,), (1.0,))


def test_each_file_is_named_with_its_licence() -> None:
    rows = re.findall(r"^\| (\S+\.jpg) \|.*\| (.+) \|$", (JUDGING / "SOURCES.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(file.name for file in JUDGING.glob("*.jpg"))
    assert {licence for _, licence in rows} == {"CC0", "public domain"}
    assert sum(file.stat().st_size for file in JUDGING.iterdir()) < 300_000


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 224, 224), (3, 48, 320), (3, 600, 500), (1, 8, 8)])
def test_any_image_shape_is_filled(shape: tuple[int, ...]) -> None:
    images = photographs(12, shape, PIXELS, seed=1)
    assert images.shape == (12, *shape)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) >= (0, 0)
    assert images.max() <= 1
    assert images.std(axis=(1, 2, 3)).min() > 0.01  # no crop is blank
    assert len({image.tobytes() for image in images}) == 12


def test_the_seed_decides() -> None:
    first, again, other = (photographs(6, (3, 16, 16), PIXELS, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_preprocess_maps_black_and_white_to_its_bounds() -> None:
    """The same pixels behind another preprocess: (pixel - mean) / std, channel by channel."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = photographs(6, (3, 20, 20), PIXELS, seed=2)
    inputs = photographs(6, (3, 20, 20), Preprocess(mean, std), seed=2)
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(inputs, expected, atol=1e-5)


def test_without_preprocess_the_set_is_standardized() -> None:
    images = photographs(24, (1, 32, 32), None, seed=0)
    assert images.mean() == pytest.approx(0, abs=1e-3)
    assert images.std() == pytest.approx(1, abs=1e-3)


def test_a_crop_shows_its_photograph() -> None:
    """Averaged over many crops, each photograph keeps its own hue."""
    images = photographs(240, (3, 32, 32), PIXELS, seed=0)
    for index, file in enumerate(sorted(JUDGING.glob("*.jpg"))):
        whole = np.asarray(Image.open(file).convert("RGB"), np.float32).mean(axis=(0, 1)) / 255
        crops = images[index::6].mean(axis=(0, 2, 3))
        np.testing.assert_allclose(crops - crops.mean(), whole - whole.mean(), atol=0.08)


@pytest.mark.parametrize(
    ("shape", "suits"),
    [((3, 32, 32), True), ((1, 8, 8), True), ((4, 32, 32), False), ((3, 1, 99), False), ((9,), False)],
)
def test_only_images_take_photographs(shape: tuple[int, ...], suits: bool) -> None:
    assert suits_photographs(shape) is suits
    if not suits:
        with pytest.raises(ValueError, match="is not an image"):
            photographs(1, shape)
