"""What the float and the quantized model answer to single samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.detection.head_errors import HeadTally
from dfq_deploy.evaluation.metrics import finite, log_probabilities, signal_to_noise
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["Answer", "SampleAnswers", "answers", "shown_samples"]

SHOWN = 24
"""Samples that are shown."""

FEWEST_SHOWN = 6

VALUES = 2**22
"""Values of the main input over all of them: 24 pictures of 224 x 224, 6 of 512 x 512."""


@dataclass(frozen=True)
class Answer:
    """The answer of one model to one sample.

    Args:
        category: the class with the highest score; None for a model without class scores.
        confidence: the probability of that class; the highest score of a detector; None for other models.
        name: of the class; empty where it is not known.
    """

    category: int | None
    confidence: float | None
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        named = {"name": self.name} if self.name else {}
        confidence = None if self.confidence is None else finite(self.confidence)
        return {"class": self.category, **named, "confidence": confidence}


@dataclass(frozen=True)
class SampleAnswers:
    """One sample, and what both models say.

    Args:
        index: of the sample in its set.
        held_out: nothing was calibrated with it.
        label: the class that it was made for or has; None without labels.
        first, second: the float model's and the quantized model's answer.
        snr: signal to noise in dB over all outputs with a row for each sample; None where there is none.
    """

    index: int
    held_out: bool
    label: int | None
    first: Answer
    second: Answer
    snr: float | None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null, one that was not measured is missing."""
        return {
            "index": self.index,
            "held_out": self.held_out,
            "label": self.label,
            "float": self.first.to_json(),
            "quantized": self.second.to_json(),
            **({} if self.snr is None else {"snr_db": finite(self.snr)}),
        }


def shown_samples(samples: Samples) -> tuple[int, ...]:
    """Indices of the samples that are shown: those that are held out first, then the others, evenly spread."""
    count = min(len(samples), int(np.clip(VALUES // max(1, samples.images[0].size), FEWEST_SHOWN, SHOWN)))
    held = _held_out(len(samples))
    others = np.setdiff1d(np.arange(len(samples)), held)
    more = max(0, min(count - len(held), len(others)))
    filling = others[np.arange(more) * len(others) // more] if more else others[:0]
    return tuple(int(index) for index in (*held[:count], *filling))


def answers(
    reference: Runner, quantized: Runner, samples: Samples, indices: Sequence[int], classes: Sequence[str] = ()
) -> tuple[SampleAnswers, ...]:
    """Run both models on some samples.

    Args:
        samples: the whole set of the calibration.
        indices: of the samples to run.
        classes: their names, in the order of the scores.

    Raises:
        ModelError, SamplesError: a model cannot be run on them.
    """
    part = samples.part(np.asarray(indices))
    outputs = [dict(zip(runner.output_names, runner.run(part), strict=True)) for runner in (reference, quantized)]
    arrays = _rows(outputs[0], len(indices)), _rows(outputs[1], len(indices))
    shared = [name for name in arrays[0] if name in arrays[1] and arrays[0][name].shape == arrays[1][name].shape]
    first, second = ([_named(answer, classes) for answer in row] for row in _answers(reference, arrays, part))
    held = set(_held_out(len(samples)).tolist())
    labels = None if samples.labels is None else samples.labels[np.asarray(indices)]
    return tuple(
        SampleAnswers(
            index,
            index in held,
            None if labels is None else int(labels[row].argmax() if labels.ndim == 2 else labels[row]),
            first[row],
            second[row],
            _snr([(arrays[0][name][row], arrays[1][name][row]) for name in shared]),
        )
        for row, index in enumerate(indices)
    )


def _named(answer: Answer, classes: Sequence[str]) -> Answer:
    known = answer.category is not None and answer.category < len(classes)
    return replace(answer, name=classes[answer.category]) if known and answer.category is not None else answer


def _held_out(count: int) -> NDArray[np.int64]:
    """As :func:`dfq_deploy.samples.batches.split_held_out` has them; of fewer than 8 samples all."""
    return np.arange(7, count, 8) if count >= 8 else np.arange(count)


def _rows(outputs: Mapping[str, Output], count: int) -> dict[str, NDArray[Any]]:
    return {
        name: array for name, array in outputs.items() if not isinstance(array, tuple) and array.shape[:1] == (count,)
    }


def _answers(
    runner: Runner, arrays: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], part: Samples
) -> list[list[Answer]]:
    scored = runner.scores(labelled=part.labels is not None)
    if scored is not None and all(scored in found and found[scored].size > len(part) for found in arrays):
        return [_classes(found[scored], runner.activation(scored)) for found in arrays]
    head = HeadTally.of(runner.head_parts(), part.images.shape[1:])
    if head is not None:
        head.add(*arrays)
        if head.best:
            return [[Answer(None, float(best)) for best in row] for row in np.concatenate(head.best, axis=1)]
    return [[Answer(None, None)] * len(part)] * 2


def _classes(scores: NDArray[Any], activation: str) -> list[Answer]:
    rows = scores.reshape(len(scores), -1)
    shares = np.exp(log_probabilities(rows, activation))
    return [Answer(int(row.argmax()), float(share.max())) for row, share in zip(rows, shares, strict=True)]


def _snr(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float | None:
    if not pairs:
        return None
    signal = sum(float(np.square(one.astype(np.float64)).sum()) for one, _ in pairs)
    noise = sum(float(np.square(one.astype(np.float64) - other.astype(np.float64)).sum()) for one, other in pairs)
    return signal_to_noise(signal, noise) if math.isfinite(signal) else None
