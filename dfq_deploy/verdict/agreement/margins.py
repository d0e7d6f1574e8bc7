"""Estimate how many answers of a classifier change on inputs that it is sure of, from others.

Inputs that a network was not trained on, such as photographs of another kind, differ from real ones in two ways: their
answers fall into few classes, and the float model is less sure of them. Both are undone here: each class that the float
model answers counts the same, and its scores are multiplied before the noise of the quantized model is added.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "balanced", "changes_at_margin", "changes_if_it_won", "part_changed", "part_lost"]

MARGIN = 3.0
"""How many times larger the differences of class scores are taken than those of the inputs."""

SHUFFLES = 16
"""How often the noise is assigned to other inputs."""

COUNTED = 0.3
"""Part of the square of the counted changes that is the least to expect at larger margins: a shift of the scores that
is smaller than all enlarged margins changes no answer there, though real margins differ. The files of docs/verdict.md
have at least 0.32."""

SEEN = 5
"""Inputs of one class from which on something is said about it."""

LOST = 0.5
"""Part of the answers of one class that change at larger margins, from which on the class is lost: fewer in
all files of docs/verdict.md that lose 2 points or less."""

CONSTANT = 1e-6
"""A score of a smaller part of the largest variance tells nothing about how the quantized one follows it."""

LOST_UNSEEN = 0.95
"""The same where the class takes the place of the one that wins: at most 0.91 in those files whose verdict is not
``BAD``; all of them where a class is never given."""

Floats = NDArray[np.floating[Any]]


def balanced(reference: Floats, values: NDArray[Any]) -> float:
    """Mean of ``values`` (N,) over the classes that the float model answers, each of which counts the same.

    Args:
        reference: scores of the float model (N, K).
    """
    return float(np.average(values, weights=_weights(reference.argmax(axis=1))))


def part_changed(reference: Floats, found: Floats) -> float:
    """Part of the answers to expect to change on inputs that the float model is sure of, 0 to 1.

    Args:
        reference, found: as :func:`changes_at_margin` takes them.
    """
    counted = balanced(reference, reference.argmax(axis=1) != found.argmax(axis=1))
    return max(balanced(reference, changes_at_margin(reference, found)), COUNTED * counted**2)


def part_lost(reference: Floats, found: Floats) -> float:
    """Part of the answers, 0 to 1, that change in classes that are lost, where all classes are equally frequent.

    A class of :data:`SEEN` inputs or more is lost if at least :data:`LOST` of its answers change; any class is if it
    would lose :data:`LOST_UNSEEN` of the inputs that win with its score (:func:`changes_if_it_won`).

    Args:
        reference, found: as :func:`changes_at_margin` takes them.
    """
    classes, changes = reference.argmax(axis=1), changes_at_margin(reference, found)
    seen = np.bincount(classes, minlength=reference.shape[1])
    changed = np.bincount(classes, weights=changes, minlength=reference.shape[1]) / np.maximum(seen, 1)
    unseen = changes_if_it_won(reference, found)
    own = np.where((seen >= SEEN) & (changed >= LOST), changed, 0.0)
    return float(np.where(unseen >= LOST_UNSEEN, unseen, own).mean())


def changes_if_it_won(reference: Floats, found: Floats, margin: float = MARGIN) -> NDArray[np.float64]:
    """For each class, the part of all inputs whose answer changes if it had the largest score instead of another class.

    In each input the class swaps scores with the one that wins, at larger margins. The quantized score of a class is
    taken as a linear function of its float score, fitted over all inputs, so no input of the class is needed.

    Args:
        reference, found: as :func:`changes_at_margin` takes them.

    Returns:
        (K,), 0 to 1; 0 for a class whose float score is constant.
    """
    exact, given = (_centred(scores) for scores in (reference, found))
    middle, shifted = exact.mean(axis=0), given.mean(axis=0)
    spread, rows = exact - middle, np.arange(len(exact))
    power = np.square(spread).sum(axis=0)
    slope = (spread * (given - shifted)).sum(axis=0) / np.maximum(power, 1e-30)
    winner, enlarged = exact.argmax(axis=1), margin * exact
    others = shifted + slope * (enlarged - middle)
    others[rows, winner] = -np.inf
    second = others.argmax(axis=1)
    best = others[rows, second]
    others[rows, second] = -np.inf
    rival = np.where(second[:, None] == np.arange(exact.shape[1]), others.max(axis=1)[:, None], best[:, None])
    swapped = shifted + slope * (enlarged[rows, winner][:, None] - middle)
    beaten = shifted[winner, None] + slope[winner, None] * (enlarged - middle[winner, None])
    changed = np.asarray((np.maximum(rival, beaten) > swapped).mean(axis=0), np.float64)
    return np.where(power > CONSTANT * power.max(), changed, 0.0)


def changes_at_margin(reference: Floats, found: Floats, margin: float = MARGIN) -> NDArray[np.float64]:
    """How likely the answer of each input changes if the scores of the float model are ``margin`` times larger.

    The quantized scores are the float ones times a common factor, plus a shift of each class, plus noise. The noise of
    each input is added to the enlarged scores of others, :data:`SHUFFLES` times.

    Args:
        reference, found: logits or logarithms of probabilities (N, K) of the float and of the quantized model.

    Returns:
        (N,), 0 to 1.
    """
    exact, given = (_centred(scores) for scores in (reference, found))
    middle, shifted = exact.mean(axis=0), given.mean(axis=0)
    spread = exact - middle
    gain = float((spread * (given - shifted)).sum() / max(float(np.square(spread).sum()), 1e-30))
    noise = given - shifted - gain * spread
    enlarged = margin * gain * exact + shifted - gain * middle
    classes, generator = exact.argmax(axis=1), np.random.default_rng(0)
    changed = [(enlarged + noise[generator.permutation(len(noise))]).argmax(axis=1) != classes for _ in range(SHUFFLES)]
    return np.asarray(np.mean(changed, axis=0), np.float64)


def _centred(scores: Floats) -> NDArray[np.float64]:
    """Scores less the mean of each input, which no answer depends on."""
    exact = scores.astype(np.float64)
    return np.asarray(exact - exact.mean(axis=1, keepdims=True), np.float64)


def _weights(classes: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each input, one divided by how many inputs have its class."""
    return 1.0 / np.bincount(classes)[classes]
