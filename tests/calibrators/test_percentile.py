"""Percentiles against numpy.percentile."""

import numpy as np
import pytest
from dfq_deploy.calibrators.histogram import Histogram
from dfq_deploy.calibrators.percentile import Percentile

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import OptionError

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=True)
NORMAL = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)


@pytest.mark.parametrize("share", [99.0, 99.9, 99.99, 100.0])
def test_two_sided_asymmetric_clips_half_at_either_end(share: float) -> None:
    values = NORMAL**3
    histogram = Histogram.of(values)
    found = Percentile(share).range_of(histogram, U8)
    cut = (100 - share) / 2
    _near(values, cut, found.low, histogram.width)
    _near(values, 100 - cut, found.high, histogram.width)


@pytest.mark.parametrize("share", [99.0, 99.9, 99.99])
def test_symmetric_clips_by_magnitude(share: float) -> None:
    values = NORMAL + np.float32(1)
    histogram = Histogram.of(values)
    found = Percentile(share).range_of(histogram, S8)
    _near(np.abs(values), share, found.high, 2 * histogram.width)
    assert found.low == pytest.approx(max(-found.high, values.min()))


@pytest.mark.parametrize("qtype", [U8, S8], ids=str)
def test_one_sided_clips_the_whole_share_at_its_end(qtype: QuantType) -> None:
    values = np.maximum(NORMAL, 0)
    histogram = Histogram.of(values)
    found = Percentile(99.9).range_of(histogram, qtype)
    assert found.low == 0
    _near(values, 99.9, found.high, histogram.width)
    mirrored = Percentile(99.9).range_of(Histogram.of(-values), qtype)
    assert mirrored.high == 0
    assert mirrored.low == pytest.approx(-found.high, abs=histogram.width)


def _near(values: np.ndarray, share: float, found: float, width: float) -> None:
    low, high = (np.percentile(values, share, method=method) for method in ("lower", "higher"))
    assert low - width <= found <= high + width


@pytest.mark.parametrize("share", [50.0, 0.9999, 100.1, float("nan")])
def test_senseless_shares_are_refused(share: float) -> None:
    with pytest.raises(OptionError, match=r"Percentile: percentile=.* is outside \(50, 100\]"):
        Percentile(share)
