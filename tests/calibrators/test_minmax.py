"""Min-max, and what all calibrators have in common."""

import numpy as np
import pytest
from dfq_deploy.calibrators.entropy import Entropy
from dfq_deploy.calibrators.histogram import Histogram
from dfq_deploy.calibrators.minmax import MinMax
from dfq_deploy.calibrators.mse import MeanSquaredError
from dfq_deploy.calibrators.percentile import Percentile

from dfq_deploy.encodings import QuantType

S8 = QuantType(8, signed=True, symmetric=True)
TYPES = [
    QuantType(8, signed=False, symmetric=False),
    S8,
    QuantType(8, signed=False, symmetric=True),
    QuantType(4, signed=False, symmetric=False),
    QuantType(4, signed=True, symmetric=True),
    QuantType(16, signed=False, symmetric=False),
]
CALIBRATORS = [MinMax(), Percentile(), Entropy(), MeanSquaredError()]


def test_one_outlier_is_clipped_by_all_but_minmax() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(20_000), 100).astype(np.float32)
    histogram = Histogram.of(values)
    assert MinMax().range_of(histogram, S8).high == 100
    assert MinMax().range_of(histogram, QuantType(4, signed=True, symmetric=True)).high == 100
    clipping = [Percentile(99.99), Entropy(), MeanSquaredError()]
    for calibrator in clipping:
        assert calibrator.range_of(histogram, S8).high < 92, calibrator
    # Where one value in 20,001 may cost no more than rounding all others to 4 bits, it is given up altogether.
    for calibrator in clipping:
        assert calibrator.range_of(histogram, QuantType(4, signed=True, symmetric=True)).high < 5, calibrator


@pytest.mark.parametrize("qtype", TYPES, ids=str)
@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("value", [0.0, 3.25, -3.25, 1e-20, -1e20])
def test_a_constant_tensor_keeps_its_value(calibrator: MinMax, qtype: QuantType, value: float) -> None:
    for size in (1, 1000):
        found = calibrator.range_of(Histogram.of(np.full(size, value, np.float32)), qtype)
        assert max(abs(found.low), abs(found.high)) == abs(np.float32(value))


@pytest.mark.parametrize("qtype", TYPES, ids=str)
@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
def test_ranges_lie_within_what_was_seen(calibrator: MinMax, qtype: QuantType) -> None:
    rng = np.random.default_rng(1)
    normal = rng.standard_normal(5000).astype(np.float32)
    for values in (normal, np.maximum(normal, 0), -np.maximum(normal, 0), normal + 50, normal - 50, normal**3):
        found = calibrator.range_of(Histogram.of(values), qtype)
        assert values.min() <= found.low <= found.high <= values.max()
        # Away from zero a few levels serve best where one of them stands among the values.
        centered = values.min() < 1 and values.max() > -1
        assert not centered or np.mean((values < min(found.low, 0)) | (values > max(found.high, 0))) < 0.08
