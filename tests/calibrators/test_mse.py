"""Mean squared error against brute force on the raw values."""

import numpy as np
import pytest
from dfq_deploy.calibrators.histogram import Histogram
from dfq_deploy.calibrators.mse import MeanSquaredError, squared_errors
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=True)
U4 = QuantType(4, signed=False, symmetric=False)
S4 = QuantType(4, signed=True, symmetric=True)
RNG = np.random.default_rng(5)
NORMAL = RNG.standard_normal(4000)
TENSORS = {
    "normal": NORMAL,
    "relu": np.maximum(NORMAL, 0),
    "negated relu": np.minimum(NORMAL, 0),
    "skewed": np.where(NORMAL > 0, NORMAL * 6, NORMAL),
    "heavy tails": NORMAL**5,
    "outlier": np.append(NORMAL, 60),
}


def _true_error(values: NDArray[np.float64], span: Range, qtype: QuantType) -> float:
    """Quantized by definition, in float64."""
    encoding = Encoding.of_range(span, qtype)
    scale, zero = float(encoding.scale), int(encoding.zero_point)
    integers = np.clip(np.rint(values / scale) + zero, qtype.qmin, qtype.qmax)
    return float(np.mean((values - (integers - zero) * scale) ** 2))


def _brute_force(values: NDArray[np.float64], qtype: QuantType) -> float:
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    fractions = np.geomspace(0.005, 1, 120)
    if qtype.symmetric:
        limit = max(-low, high)
        return min(_true_error(values, Range(-limit * f, limit * f), qtype) for f in fractions)
    lows = [low * f for f in fractions[::2]] if low else [0.0]
    highs = [high * f for f in fractions[::2]] if high else [0.0]
    return min(_true_error(values, Range(a, b), qtype) for a in lows for b in highs)


@pytest.mark.parametrize("qtype", [U8, S8, U4, S4], ids=str)
@pytest.mark.parametrize("kind", TENSORS)
def test_as_good_as_brute_force(kind: str, qtype: QuantType) -> None:
    values = TENSORS[kind].astype(np.float32).astype(np.float64)
    span = MeanSquaredError().range_of(Histogram.of(values), qtype)
    assert _true_error(values, span, qtype) <= _brute_force(values, qtype) * 1.03


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_predicted_error_is_the_true_one(bits: int) -> None:
    values = RNG.uniform(-3, 5, 400_000).astype(np.float32)
    histogram = Histogram.of(values)
    qtype = QuantType(bits, signed=False, symmetric=False)
    for span in (Range(-3, 5), Range(-1, 4), Range(-2.9, 0.1)):
        (predicted,) = squared_errors(histogram, qtype, np.array([span.low]), np.array([span.high]))
        assert predicted == pytest.approx(_true_error(values.astype(np.float64), span, qtype), rel=0.01)


def test_steps_finer_than_a_bin() -> None:
    # 65,536 levels on at most 4,096 bins: the error within the range is step^2 / 12.
    values = RNG.uniform(0, 1, 100_000).astype(np.float32)
    qtype = QuantType(16, signed=False, symmetric=False)
    (predicted,) = squared_errors(Histogram.of(values), qtype, np.zeros(1), np.ones(1))
    assert predicted == pytest.approx((1 / 65535) ** 2 / 12, rel=0.02)


def test_one_outlier_is_clipped_as_calculus_says() -> None:
    # With range a the n values cost (a / 127)^2 / 12 each and the outlier (100 - a)^2: least at a = 100 / (1 + n / k).
    for count in (20_000, 400_000):
        values = np.append(RNG.standard_normal(count), 100).astype(np.float32)
        found = MeanSquaredError().range_of(Histogram.of(values), S8)
        assert found.high == pytest.approx(100 / (1 + count / (12 * 127**2)), rel=0.02)


def test_zeros_behind_a_relu_do_not_count() -> None:
    values = np.abs(NORMAL).astype(np.float32)
    padded = np.append(values, np.zeros(1_000_000, np.float32))
    for qtype in (U8, U4):
        alone, among = (MeanSquaredError().range_of(Histogram.of(v), qtype) for v in (values, padded))
        assert among.high == pytest.approx(alone.high)
