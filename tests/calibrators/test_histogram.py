"""The histogram against numpy.histogram on the whole stream at once."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from dfq_deploy.calibrators.histogram import BINS, Histogram, HistogramBuilder
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError

Floats = NDArray[np.float32]


def _f32(values: list[float]) -> Floats:
    return np.array(values, np.float32)


def _stream(kind: str) -> list[Floats]:
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape).astype(np.float32)

    streams: dict[str, list[Floats]] = {
        "growing": [normal(500) * np.float32(3**power) for power in range(-6, 12)],
        "shrinking": [normal(500) * np.float32(3**-power) for power in range(12)],
        "outlier last": [normal(70_000), _f32([100.0])],
        "outlier first": [_f32([-1000.0]), normal(2, 3, 5, 7)],
        "one element": [_f32([0.3])],
        "ragged": [normal(size) for size in (1, 65_536, 65_537, 0, 3, 200_001)],
        "negative only": [-np.abs(normal(1000)) - 1, -np.abs(normal(1000)) * 7],
        "positive then negative": [np.abs(normal(1000)), -np.abs(normal(1000)) * 40],
        "relu": [np.maximum(normal(30_000), 0)],
        "far from zero": [normal(1000) + 500],
        "zeros then values": [np.zeros(100, np.float32), normal(100)],
        "tiny": [normal(100) * np.float32(1e-30)],
        "huge": [normal(100) * np.float32(1e37)],
        "powers of two": [_f32([1, 2, 4, 8, -1, -2, -4, -8, 0])],
    }
    return streams[kind]


KINDS = [
    "growing",
    "shrinking",
    "outlier last",
    "outlier first",
    "one element",
    "ragged",
    "negative only",
    "positive then negative",
    "relu",
    "far from zero",
    "zeros then values",
    "tiny",
    "huge",
    "powers of two",
]


def _numpy_counts(values: Floats, edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts in (a, b]: numpy's bins are [a, b), so everything is mirrored."""
    # The mirrored last bin is closed at both ends in numpy; one more bin keeps it half open.
    mirrored = np.append(-edges[::-1], -edges[0] + (edges[1] - edges[0]))
    counts, _ = np.histogram(-values.astype(np.float64), mirrored)
    assert counts[-1] == 0
    return counts[-2::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_equal_numpys_on_the_whole_stream(kind: str) -> None:
    builder = HistogramBuilder()
    for values in _stream(kind):
        builder.add(values)
    found = builder.histogram()
    whole = np.concatenate([values.reshape(-1) for values in _stream(kind)])
    assert (found.low, found.high) == (whole.min(), whole.max())
    np.testing.assert_array_equal(found.counts, _numpy_counts(whole, found.edges))
    assert found.total == whole.size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "powers of two"])
def test_between_half_and_all_of_the_bins_are_in_use(kind: str) -> None:
    builder = HistogramBuilder()
    for values in _stream(kind):
        builder.add(values)
    # One less than half, where the ends fall just so that the width had to double.
    assert BINS // 2 - 1 <= len(builder.histogram().counts) <= BINS


@pytest.mark.parametrize("kind", ["growing", "outlier last", "ragged", "zeros then values", "positive then negative"])
def test_merged_parts_equal_the_whole(kind: str) -> None:
    parts = [values for values in _stream(kind) if values.size]
    whole = Histogram.of(np.concatenate([values.reshape(-1) for values in parts]))
    for order in (parts, parts[::-1]):
        merged = Histogram.of(order[0])
        for values in order[1:]:
            merged = merged.merge(Histogram.of(values))
        assert (merged.low, merged.high, merged.exponent, merged.first) == (
            whole.low,
            whole.high,
            whole.exponent,
            whole.first,
        )
        np.testing.assert_array_equal(merged.counts, whole.counts)


def test_bin_zero_of_a_relu_holds_the_exact_zeros_only() -> None:
    values = _f32([0, 0, 0, 1e-6, 1e-4, 1, 5])
    assert Histogram.of(values).zeros == 3
    assert Histogram.of(values - 1).zeros == 0


def test_hand_worked_bins() -> None:
    # 4095 = 4095 bins of width 1 above zero and the bin of zero: 4096, so the width is exactly 1.
    found = Histogram.of(_f32([0, 0.5, 1, 1.5, 4095]))
    assert (found.width, found.first) == (1.0, 0)
    assert found.counts[:3].tolist() == [1, 2, 1]
    assert found.counts[-1] == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_count_as_float32(dtype: type) -> None:
    values: NDArray[Any] = np.random.default_rng(0).standard_normal(1000).astype(dtype)
    found = Histogram.of(values)
    np.testing.assert_array_equal(found.counts, _numpy_counts(values.astype(np.float32), found.edges))


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.25, 0.5, 0.9999, 1.0])
@pytest.mark.parametrize("kind", ["outlier last", "relu", "negative only", "far from zero"])
def test_quantiles_are_numpys_within_a_bin(kind: str, fraction: float) -> None:
    whole = np.concatenate([values.reshape(-1) for values in _stream(kind)])
    found = Histogram.of(whole)
    # numpy interpolates between two values, which may lie bins apart: either of them is right.
    near = [np.quantile(whole, fraction, method=method) for method in ("lower", "higher")]
    assert near[0] - found.width <= found.quantile(fraction) <= near[1] + found.width


@pytest.mark.parametrize("values", [[-5.0, 3.0], [-5.0, -1.0], [-4095.5, -1.0], [-4095.0, 4095.0], [1.0, 2.0]])
def test_magnitudes(values: list[float]) -> None:
    found = Histogram.of(_f32(values)).magnitudes()
    edges = found.edges
    for value in values:
        at = np.flatnonzero((edges[:-1] <= abs(value)) & (abs(value) <= edges[1:]))
        assert found.counts[at].sum() >= 1
    assert found.total == 2
    assert found.high == max(abs(value) for value in values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    builder = HistogramBuilder("/conv/out")
    with pytest.raises(SamplesError, match=r"^tensor '/conv/out': NaN or infinity among its values; check samples"):
        builder.add(_f32([1, bad, 2]))


def test_refuses_integers_and_nothing() -> None:
    builder = HistogramBuilder("shape")
    with pytest.raises(ModelError, match="tensor 'shape' is int64: only float tensors have a range"):
        builder.add(np.arange(3))
    builder.add(np.zeros((0, 4), np.float32))
    with pytest.raises(SamplesError, match="tensor 'shape': no values"):
        builder.histogram()


def test_inconsistent_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts of shape"):
        Histogram(0.0, 1.0, 0, 0, np.ones(5, np.int64))
    with pytest.raises(ValueError, match="not finite and ascending"):
        Histogram(1.0, 0.0, 0, 0, np.ones(1, np.int64))


def test_memory_does_not_grow_with_the_stream() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    builder = HistogramBuilder()
    builder.add(values)
    tracemalloc.start()
    try:
        builder.add(values)
        settled, _ = tracemalloc.get_traced_memory()
        for scale in range(2, 40):
            builder.add(values * np.float32(scale))
        assert tracemalloc.get_traced_memory()[0] - settled < 100_000
    finally:
        tracemalloc.stop()
