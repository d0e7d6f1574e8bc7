"""Answers that change at larger margins, against cases worked out by hand and simulated."""

import numpy as np
import pytest

from dfq_deploy.verdict.agreement.margins import balanced, changed_at_margin


def test_each_class_counts_the_same() -> None:
    """Three inputs of class 0 with 0, 0 and 0.3, one of class 1 with 0.5: (0.1 + 0.5) / 2."""
    reference = np.eye(2)[[0, 0, 0, 1]]
    assert balanced(reference, np.array([0.0, 0.0, 0.3, 0.5])) == pytest.approx(0.3)


def test_equal_scores_change_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 5))
    assert changed_at_margin(scores, scores) == 0
    assert changed_at_margin(scores, 0.1 * scores + 7) == pytest.approx(0)  # a factor and a constant keep every answer


def test_one_class_for_all_inputs_agrees_with_one_of_them() -> None:
    """A model that always answers class 0 agrees on 9 of 10 inputs of class 0, but on one class of two."""
    reference = 3 * np.eye(2)[[0] * 9 + [1]]
    always = np.tile([9.0, 0.0], (10, 1))
    assert changed_at_margin(reference, always) == pytest.approx(0.5)


def test_noise_changes_the_answers_that_inputs_of_larger_margin_lose() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(2000, 4))
    noise = 0.5 * generator.normal(size=scores.shape)
    enlarged = 2 * scores
    lost = float(((enlarged + noise).argmax(axis=1) != enlarged.argmax(axis=1)).mean())
    assert changed_at_margin(scores, scores + noise, 2.0) == pytest.approx(lost, abs=0.02)
    assert changed_at_margin(scores, scores + noise, 1.0) > 1.5 * lost
