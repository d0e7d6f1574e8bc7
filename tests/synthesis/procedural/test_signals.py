"""Signals made by rule: bounds, shapes, variety."""

import numpy as np
import pytest

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.methods.procedural import Procedural
from dfq_deploy.synthesis.procedural.signals import QUIETEST, signal


@pytest.mark.parametrize("shape", [(64,), (1, 4000), (4000, 1), (40, 101), (2, 3, 50, 4)])
def test_a_signal_fills_its_shape_within_one(shape: tuple[int, ...]) -> None:
    drawn = signal(shape, np.random.default_rng(3))
    assert drawn.shape == shape
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    assert QUIETEST - 1e-6 <= np.abs(drawn).max() <= 1 + 1e-6


def test_time_runs_along_the_longest_axis() -> None:
    """Neighbors in time are more alike than neighboring channels."""
    drawn = np.stack([signal((400, 8), np.random.default_rng(seed)) for seed in range(40)])
    along = [np.corrcoef(one[:-1].ravel(), one[1:].ravel())[0, 1] for one in drawn]
    across = [np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1] for one in drawn]
    assert np.mean(along) > 0.4
    assert abs(np.mean(across)) < 0.2


def test_loud_and_quiet_smooth_and_rough_ones() -> None:
    drawn = [signal((2048,), np.random.default_rng(seed)) for seed in range(60)]
    peaks = np.array([np.abs(one).max() for one in drawn])
    assert peaks.max() > 0.7
    assert peaks.min() < 0.1
    spectra = [np.abs(np.fft.rfft(one)) ** 2 for one in drawn]
    centres = np.array([(power * np.arange(len(power))).sum() / power.sum() / len(power) for power in spectra])
    assert centres.min() < 0.05
    assert centres.max() > 0.3


def test_a_stated_range_bounds_a_signal_and_none_standardizes_it() -> None:
    pixels = Preprocess((0.25,), (0.125,))
    known = Procedural().synthesize((), SynthesisRequest(12, (256,), preprocess=pixels)).images
    assert known.min() >= -2 - 1e-5
    assert known.max() <= 6 + 1e-5
    assert np.median(known) == pytest.approx(2, abs=0.5)
    free = Procedural().synthesize((), SynthesisRequest(12, (256,))).images
    assert free.mean() == pytest.approx(0, abs=1e-4)
    assert free.std() == pytest.approx(1, abs=1e-3)
    again = Procedural().synthesize((), SynthesisRequest(12, (256,))).images
    np.testing.assert_array_equal(free, again)
