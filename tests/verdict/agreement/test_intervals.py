"""Confidence intervals against SciPy's, and against how often they hold."""

import numpy as np
import pytest
from scipy.stats import binomtest  # comes with scikit-learn

from dfq_deploy.verdict.agreement.intervals import agreement_interval, drop_interval, samples_needed


@pytest.mark.parametrize(
    ("same", "count"), [(8, 8), (0, 8), (1, 8), (7, 8), (63, 64), (64, 64), (500, 1000), (9_990, 10_000), (1, 1)]
)
def test_agreement_interval_is_scipys_exact_one(same: int, count: int) -> None:
    found, expected = agreement_interval(same, count), binomtest(same, count).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


def test_eight_of_eight_is_at_least_63_percent() -> None:
    """The bound in closed form: 0.025 ** (1 / 8)."""
    found = agreement_interval(8, 8)
    assert (found.value, found.high) == (100, 100)
    assert found.low == pytest.approx(100 * 0.025**0.125)
    assert str(found) == "100.0 % of 8 (63.1 to 100.0)"


@pytest.mark.parametrize(("same", "count"), [(1, 0), (-1, 8), (9, 8)])
def test_what_is_no_proportion_is_refused(same: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{same} of {count} is no proportion"):
        agreement_interval(same, count)


@pytest.mark.parametrize("lost", [0.002, 0.02, 0.1])
def test_drop_interval_holds_the_true_drop_in_95_of_100_draws(lost: float) -> None:
    rng = np.random.default_rng(0)
    draws = rng.multinomial(500, [lost, lost / 4, 1 - 1.25 * lost], size=2000)
    found = [drop_interval(int(a), int(b), 500) for a, b, _ in draws]
    covered = np.mean([interval.low <= 75 * lost <= interval.high for interval in found])
    assert covered >= 0.93


def test_drop_interval_by_hand() -> None:
    """30 lost and 10 gained of 98: (20 / 100) +- 1.96 sqrt((41 / 100 - 0.04) / 100)."""
    found = drop_interval(30, 10, 98)
    reach = 100 * 1.959964 * np.sqrt(0.37 / 100)
    assert found.value == pytest.approx(100 * 20 / 98)
    assert (found.low, found.high) == pytest.approx((20 - reach, 20 + reach), abs=1e-4)


def test_counts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="6 lost and 5 gained of 10 do not fit together"):
        drop_interval(6, 5, 10)


def test_so_many_samples_show_a_loss() -> None:
    needed = samples_needed(3, 1, 64, 0.5)
    assert needed % 50 == 0
    assert drop_interval(3, 1, 64).low <= 0.5
    assert drop_interval(round(3 * needed / 64), round(needed / 64), needed).low > 0.5
    with pytest.raises(ValueError, match=r"are no loss of more than 0\.5 points"):
        samples_needed(1, 1, 64, 0.5)
