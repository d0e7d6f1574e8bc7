"""Noise: its distribution, its seed, its words."""

import numpy as np
import pytest

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.methods.noise import Noise

SHAPE = (3, 16, 16)


def draw(distribution: str, seed: int = 0) -> np.ndarray:
    return Noise(distribution).synthesize((), SynthesisRequest(64, SHAPE, seed=seed)).images


def test_uniform_noise_fills_the_unit_interval() -> None:
    images = draw("uniform")
    assert images.shape == (64, *SHAPE)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() < 1
    tenths = np.histogram(images, bins=10, range=(0, 1))[0] / images.size
    np.testing.assert_allclose(tenths, 0.1, atol=0.01)


def test_gaussian_noise_is_standard_normal() -> None:
    images = draw("gaussian")
    assert images.mean() == pytest.approx(0, abs=0.02)
    assert images.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(images) < 1).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("distribution", ["uniform", "gaussian"])
def test_the_seed_decides(distribution: str) -> None:
    np.testing.assert_array_equal(draw(distribution, 3), draw(distribution, 3))
    assert not np.array_equal(draw(distribution, 3), draw(distribution, 4))


def test_values_are_independent() -> None:
    images = draw("gaussian")
    neighbours = np.corrcoef(images[..., :-1].ravel(), images[..., 1:].ravel())[0, 1]
    samples = np.corrcoef(images[:32].ravel(), images[32:].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    assert abs(samples) < 0.02


def test_another_distribution_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^noise: distribution 'pink' is neither uniform nor gaussian$"):
        Noise("pink")
