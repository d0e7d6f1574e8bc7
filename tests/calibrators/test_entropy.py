"""Entropy against a literal reading of the definition."""

import math

import numpy as np
import pytest
from dfq_deploy.calibrators.entropy import Entropy, best_length, divergences
from dfq_deploy.calibrators.histogram import Histogram

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import OptionError

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=True)
U4 = QuantType(4, signed=False, symmetric=False)
NORMAL = np.random.default_rng(2).standard_normal(100_000).astype(np.float32)


def _divergence(counts: list[int], levels: int, length: int) -> float:
    """KL(P || Q) of the first ``length`` bins, bin by bin (Migacz 2017); an empty last level holds one value."""
    reference = counts[:length]
    outliers = sum(counts[length:])
    reference[-1] += outliers
    candidate = [0.0] * length
    for level in range(levels):
        bins = range(level * length // levels, (level + 1) * length // levels)
        filled = [index for index in bins if reference[index] > 0]
        content = sum(counts[other] for other in bins)
        if level == levels - 1 and outliers and content == 0:
            content = 1
        for index in filled:
            candidate[index] = content / len(filled)
    total_p, total_q = sum(reference), sum(candidate)
    found = 0.0
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            found += p / total_p * math.log((p / total_p) / (q / total_q))
    return found


@pytest.mark.parametrize("levels", [4, 16])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_divergences_equal_the_definition(levels: int, sparsity: float) -> None:
    rng = np.random.default_rng(7)
    counts = (rng.exponential(50, 120) * (rng.random(120) > sparsity)).astype(np.int64)
    counts[:3] += 1
    lengths = np.arange(levels, 121)
    expected = [_divergence(counts.tolist(), levels, length) for length in lengths.tolist()]
    np.testing.assert_allclose(divergences(counts, levels, lengths), expected, rtol=1e-9, atol=1e-12)


def test_the_slides_example_of_a_candidate() -> None:
    # 8 bins to 2 levels; [1, 0, 2, 3, 5, 3, 1, 7] becomes [2, 0, 2, 2, 4, 4, 4, 4], both sum to 22.
    p, q = [1, 2, 3, 5, 3, 1, 7], [2, 2, 2, 4, 4, 4, 4]
    expected = sum(a / 22 * math.log(a / b) for a, b in zip(p, q, strict=True))
    (found,) = divergences(np.array([1, 0, 2, 3, 5, 3, 1, 7]), 2, np.array([8]))
    assert found == pytest.approx(expected)


def test_the_best_of_all_lengths_is_found() -> None:
    counts = np.histogram(np.abs(NORMAL), 200)[0]
    allowed = [length for length in range(16, 201) if counts[length:].sum() <= 100]
    expected = min(allowed, key=lambda length: _divergence(counts.tolist(), 16, length))
    assert expected < 200
    assert best_length(counts, 16, 1000) == expected


@pytest.mark.parametrize("qtype", [U8, S8, U4], ids=str)
def test_an_outlier_goes_and_the_bulk_stays(qtype: QuantType) -> None:
    for values, sides in ((NORMAL, 2), (np.abs(NORMAL), 1)):
        found = Entropy().range_of(Histogram.of(np.append(values, np.float32(100))), qtype)
        # Bins of 1/32: one-sided 256 levels cannot end before 8.
        assert 2.5 < found.high < 8.1
        assert sides == 1 or -6 < found.low < -2.5


def test_zeros_behind_a_relu_do_not_count() -> None:
    values = np.abs(NORMAL)
    for sign in (1, -1):
        for qtype in (U8, S8):
            alone = Entropy().range_of(Histogram.of(sign * values), qtype)
            among = Entropy().range_of(Histogram.of(sign * np.append(values, np.zeros(900_000, np.float32))), qtype)
            assert (alone.low, alone.high) == pytest.approx((among.low, among.high), abs=0.02)


def test_heavy_tails_and_lone_values_are_not_clipped_away() -> None:
    # Half of the values behind a gap, and all of them far from zero: KL alone would clip them into one bin.
    for values in (np.append(np.abs(NORMAL), np.float32(50) + np.abs(NORMAL)), NORMAL + 50, NORMAL**5):
        for qtype in (U8, S8, U4):
            found = Entropy().range_of(Histogram.of(values), qtype)
            assert np.mean((values > found.high) | (values < min(found.low, 0))) <= 0.003


def test_more_levels_than_bins_clip_nothing() -> None:
    found = Entropy().range_of(Histogram.of(NORMAL), QuantType(16, signed=False, symmetric=False))
    assert (found.low, found.high) == (NORMAL.min(), NORMAL.max())


def test_too_few_candidates_are_refused() -> None:
    with pytest.raises(OptionError, match="Entropy: candidates=1 must be at least 2"):
        Entropy(candidates=1)
