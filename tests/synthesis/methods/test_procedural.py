"""Pictures made by rule: what natural images share, bounds, seed."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.photographs import JUDGING
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.synthesis.methods.procedural import Procedural


def draw(count: int, shape: tuple[int, ...], preprocess: Preprocess | None = None, seed: int = 0) -> np.ndarray:
    request = SynthesisRequest(count, shape, preprocess=preprocess, seed=seed)
    return Procedural().synthesize((), request).images


def test_pictures_keep_to_what_pixels_can_be_and_use_it() -> None:
    pixels = PREPROCESSES["imagenet"]
    images = draw(48, (3, 24, 32), pixels)
    assert images.shape == (48, 3, 24, 32)
    assert images.dtype == np.float32
    for channel, (mean, std) in enumerate(zip(pixels.mean, pixels.std, strict=True)):
        low, high = (0 - mean) / std, (1 - mean) / std
        assert images[:, channel].min() == pytest.approx(low, abs=0.05)
        assert images[:, channel].max() == pytest.approx(high, abs=0.05)
        assert images[:, channel].min() >= low - 1e-5
        assert images[:, channel].max() <= high + 1e-5


def test_without_a_preprocess_they_are_standardized() -> None:
    images = draw(16, (1, 16, 16))
    assert images.mean() == pytest.approx(0, abs=1e-4)
    assert images.std() == pytest.approx(1, abs=1e-3)


def test_the_seed_decides_and_no_two_pictures_are_alike() -> None:
    images = draw(6, (3, 16, 16), seed=5)
    np.testing.assert_array_equal(images, draw(6, (3, 16, 16), seed=5))
    assert not np.array_equal(images, draw(6, (3, 16, 16), seed=6))
    assert len({image.tobytes() for image in images}) == 6


def slope(grey: np.ndarray) -> float:
    """How the logarithm of the amplitude falls with that of the frequency, in pictures of 64 x 64; of noise it is 0."""
    window = np.outer(np.hanning(64), np.hanning(64))
    amplitude = np.abs(np.fft.fft2((grey - grey.mean((1, 2), keepdims=True)) * window)).mean(0)
    rows, columns = np.meshgrid(np.fft.fftfreq(64) * 64, np.fft.fftfreq(64) * 64, indexing="ij")
    radius = np.hypot(rows, columns).round().astype(int)
    frequencies = np.arange(3, 25)
    falls = [amplitude[radius == frequency].mean() for frequency in frequencies]
    return float(np.polyfit(np.log(frequencies), np.log(falls), 1)[0])


def photographs() -> np.ndarray:
    """Square crops of the shipped photographs that judge, 64 x 64."""
    crops = []
    for file in sorted(JUDGING.glob("*.jpg")):
        image = Image.open(file).convert("L")
        for share in (0.4, 0.6, 0.8, 1.0):
            side = int(share * min(image.size))
            square = ImageOps.fit(image, (side, side), centering=(share, 0.5), bleed=0.0)
            crops.append(np.asarray(square.resize((64, 64), Image.Resampling.BILINEAR), float))
    return np.stack(crops)


def test_the_amplitude_spectrum_falls_off_as_that_of_photographs() -> None:
    """Field (1987) finds slopes of -0.8 to -1.5; what a lens blurs falls faster."""
    assert abs(slope(draw(32, (1, 64, 64))[:, 0]) - slope(photographs())) < 0.3


def test_neighbouring_pixels_are_alike_and_colours_go_together() -> None:
    images = draw(32, (3, 32, 32))
    assert np.corrcoef(images[..., :-1].ravel(), images[..., 1:].ravel())[0, 1] > 0.6
    assert np.corrcoef(images[:, 0].ravel(), images[:, 2].ravel())[0, 1] > 0.6


def test_pictures_differ_in_brightness_and_contrast() -> None:
    images = draw(64, (1, 16, 16), PREPROCESSES["zero-one"])
    assert images.mean((1, 2, 3)).std() > 0.08
    contrast = images.std((1, 2, 3))
    assert contrast.max() > 2 * contrast.min()


@pytest.mark.parametrize("options", [{"texture": -0.1}, {"sharpest": 2.0}, {"sharpest": -1.0}])
def test_options_without_a_meaning_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="sharpest is at most softest"):
        Procedural(**options)
