"""Estimate how many answers of a classifier change on inputs that it is sure of, from others.

Inputs that a network was not trained on, such as photographs of another kind, differ from real ones in two ways: their
answers fall into few classes, and the float model is less sure of them. Both are undone here: each class that the float
model answers counts the same, and its scores are multiplied before the noise of the quantized model is added.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "balanced", "changed_at_margin"]

MARGIN = 3.0
"""How many times larger the differences of class scores are taken than those of the inputs."""

SHUFFLES = 16
"""How often the noise is assigned to other inputs."""

Floats = NDArray[np.floating[Any]]


def balanced(reference: Floats, values: Floats) -> float:
    """Mean of ``values`` (N,) over the classes that the float model answers, each of which counts the same.

    Args:
        reference: scores of the float model (N, K).
    """
    return float(np.average(values, weights=_weights(reference.argmax(axis=1))))


def changed_at_margin(reference: Floats, found: Floats, margin: float = MARGIN) -> float:
    """Part of the answers that change where the scores of the float model are ``margin`` times larger, 0 to 1.

    The quantized scores are the float ones times a common factor, plus a shift of each class, plus noise. The noise of
    each input is added to the enlarged scores of others, :data:`SHUFFLES` times.

    Args:
        reference, found: logits or logarithms of probabilities (N, K) of the float and of the quantized model.
    """
    exact, given = (_centred(scores) for scores in (reference, found))
    middle, shifted = exact.mean(axis=0), given.mean(axis=0)
    spread = exact - middle
    gain = float((spread * (given - shifted)).sum() / max(float(np.square(spread).sum()), 1e-30))
    noise = given - shifted - gain * spread
    enlarged = margin * gain * exact + shifted - gain * middle
    classes = exact.argmax(axis=1)
    generator, weights = np.random.default_rng(0), _weights(classes)
    changed = [
        np.average((enlarged + noise[generator.permutation(len(noise))]).argmax(axis=1) != classes, weights=weights)
        for _ in range(SHUFFLES)
    ]
    return float(np.mean(changed))


def _centred(scores: Floats) -> NDArray[np.float64]:
    """Scores less the mean of each input, which no answer depends on."""
    exact = scores.astype(np.float64)
    return np.asarray(exact - exact.mean(axis=1, keepdims=True), np.float64)


def _weights(classes: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each input, one divided by how many inputs have its class."""
    return 1.0 / np.bincount(classes)[classes]
