"""Histograms of quantized tensors."""

import numpy as np
import pytest

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.verdict.noise.histograms import BINS, histogram_of

UNSIGNED = QuantType(8, signed=False, symmetric=False)
SIGNED = QuantType(8, signed=True, symmetric=True)


def test_values_are_counted_with_the_range_of_the_integers() -> None:
    values = np.linspace(-1, 3, 1000, dtype=np.float32)
    found = histogram_of("x", values, Encoding.of_range(Range(0.0, 2.55), UNSIGNED))
    assert (found.type, found.unit, len(found.counts), sum(found.counts)) == ("u8", "value", BINS, 1000)
    assert (found.low, found.high) == (-1.0, 3.0)
    assert (found.clip_low, found.clip_high, found.step) == pytest.approx((0.0, 2.55, 0.01), rel=1e-5)
    assert max(found.counts) - min(found.counts) <= 1
    assert found.outside == pytest.approx((1 + 0.45) / 4, abs=0.005)


def test_channels_with_their_own_scales_are_counted_in_steps() -> None:
    weight = np.array([[1.0, -1.0], [100.0, -50.0]], np.float32)
    encoding = Encoding.of_bounds(weight.min(axis=1), weight.max(axis=1), SIGNED, 0)
    found = histogram_of("w", weight, encoding, 0)
    assert (found.unit, found.clip_low, found.clip_high, found.step) == ("step", -127.0, 127.0, 1.0)
    assert (found.low, found.high) == pytest.approx((-127.0, 127.0), rel=1e-5)
    assert found.counts[-1] == 2
    assert found.outside == 0
    assert found.to_json()["counts"] == list(found.counts)


def test_all_zeros() -> None:
    found = histogram_of("x", np.zeros(4, np.float32), Encoding.of_range(Range(0.0, 0.0), UNSIGNED))
    assert sum(found.counts) == 4
