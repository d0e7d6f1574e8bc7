"""Answers that change at larger margins, against cases worked out by hand and simulated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dfq_deploy.verdict.agreement.margins import balanced, changes_at_margin, changes_if_it_won, part_changed, part_lost


def test_each_class_counts_the_same() -> None:
    """Three inputs of class 0 with 0, 0 and 0.3, one of class 1 with 0.5: (0.1 + 0.5) / 2."""
    reference = np.eye(2)[[0, 0, 0, 1]]
    assert balanced(reference, np.array([0.0, 0.0, 0.3, 0.5])) == pytest.approx(0.3)


def test_equal_scores_change_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 5))
    assert not changes_at_margin(scores, scores).any()
    assert not changes_at_margin(scores, 0.1 * scores + 7).any()  # a factor and a constant keep every answer
    assert part_changed(scores, scores) == part_lost(scores, scores) == 0


def test_one_class_for_all_inputs_agrees_with_one_of_them() -> None:
    """A model that always answers class 0 agrees on 9 of 10 inputs of class 0, but on one class of two."""
    reference = 3 * np.eye(2)[[0] * 9 + [1]]
    always = np.tile([9.0, 0.0], (10, 1))
    assert part_changed(reference, always) == pytest.approx(0.5)


def test_noise_changes_the_answers_that_inputs_of_larger_margin_lose() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(2000, 4))
    noise = 0.5 * generator.normal(size=scores.shape)
    enlarged = 2 * scores
    lost = float(((enlarged + noise).argmax(axis=1) != enlarged.argmax(axis=1)).mean())
    assert changes_at_margin(scores, scores + noise, 2.0).mean() == pytest.approx(lost, abs=0.02)
    assert changes_at_margin(scores, scores + noise, 1.0).mean() > 1.5 * lost


def test_a_shift_below_all_enlarged_margins_counts() -> None:
    """Margins of 2 and a shift of 3: three classes of four change, none at margins of 6; 0.3 * 0.75 ** 2."""
    reference = 2 * np.eye(4)[np.arange(4).repeat(5)]
    shifted = reference + np.array([3.0, 0, 0, 0])
    assert not changes_at_margin(reference, shifted).any()
    assert part_changed(reference, shifted) == pytest.approx(0.16875)


def _scores(seed: int = 2) -> NDArray[np.float64]:
    """Of five classes, the last of which never wins."""
    scores = np.random.default_rng(seed).normal(size=(60, 5))
    scores[:, 4] -= 9
    return scores


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_a_class_that_is_never_answered_is_lost(factor: float) -> None:
    """One class of five, though no input has it: its score is constant, or 50 too small."""
    scores = _scores()
    without = scores.copy()
    without[:, 4] = factor * without[:, 4] - 50
    assert changes_if_it_won(scores, without)[4] == 1
    assert part_lost(scores, without) == pytest.approx(0.2)


def test_nothing_is_said_of_a_score_that_is_constant() -> None:
    scores = _scores()
    scores[:, 4] = scores[:, :4].mean(axis=1) - 9
    assert part_lost(scores, scores) == part_lost(scores[:1], scores[:1]) == 0


def test_noise_loses_no_class() -> None:
    scores = _scores()
    noisy = scores + 0.1 * np.random.default_rng(3).normal(size=scores.shape)
    assert part_lost(scores, noisy) == 0
    assert changes_if_it_won(scores, noisy).max() < 0.3


def test_all_classes_but_one_are_lost() -> None:
    """All but the class that is always given."""
    reference = 4 * np.eye(5)[[0, 1, 2, 3] * 8 + [4] * 8]
    always = np.tile([9.0, 0, 0, 0, 0], (40, 1))
    assert part_lost(reference, always) == pytest.approx(0.8)
