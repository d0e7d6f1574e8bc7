"""Compare what a model is for, where that is stated: classes of pixels, numbers, embeddings."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import looks_channels_last

__all__ = ["JUDGED", "TaskErrors", "TaskTally"]

Judged: TypeAlias = Literal["segment", "regress", "embed"]

JUDGED: tuple[Judged, ...] = ("segment", "regress", "embed")
"""The tasks of :data:`dfq_deploy.graph.task.TASKS` that have a figure here; classes and boxes have their own."""

SEEN = 0.01
"""Part of all pixels that float has to give a class for it to count."""

Values: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class TaskErrors:
    """The worst output of a model, by the figure of its task.

    ============ ======================================================================================================
    ``segment``  mean over the classes of intersection over union of their pixels, float's and the quantized model's;
                 classes of less than 1 % of float's pixels do not count
    ``regress``  1 less the mean absolute error, as a part of the standard deviation of all of float's values
    ``embed``    mean cosine of the angle between the rows of both models
    ============ ======================================================================================================

    Args:
        task: that is stated.
        output: name of the worst output.
        figure: up to 1, where nothing changes.
    """

    task: Judged
    output: str
    figure: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {"name": self.task, "output": self.output, "figure": self.figure}


@dataclass
class TaskTally:
    """Sums for :class:`TaskErrors`, over slices of the samples."""

    task: Judged
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    pixels: dict[str, dict[int, NDArray[np.float64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, task: str | None) -> "TaskTally | None":
        """None for a task that has no figure here, or none that is stated."""
        return next((cls(known) for known in JUDGED if known == task), None)

    def add(self, name: str, wanted: Values, given: Values) -> None:
        """Count one slice of the output ``name``: of float and of the quantized model, each (N, ...)."""
        if self.task == "segment":
            self._add_classes(name, classes_of(wanted), classes_of(given))
            return
        first, second = (array.reshape(len(array), -1).astype(np.float64) for array in (wanted, given))
        if self.task == "embed":
            norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
            same = (first == second).all(axis=1)
            cosines = np.where(same, 1.0, (first * second).sum(axis=1) / np.where(norms > 0, norms, 1.0))
            found = np.array([cosines.sum(), len(cosines)])
        else:
            found = np.array([np.abs(first - second).sum(), first.sum(), np.square(first).sum(), first.size])
        self.sums[name] = self.sums.get(name, np.zeros(len(found))) + found

    def _add_classes(self, name: str, wanted: Values, given: Values) -> None:
        counts = self.pixels.setdefault(name, defaultdict(lambda: np.zeros(3)))
        for category in np.union1d(wanted, given):
            ours, theirs = wanted == category, given == category
            counts[int(category)] += ours.sum(), (ours & theirs).sum(), (ours | theirs).sum()

    def errors(self) -> TaskErrors | None:
        """What the sums give; None where no output could be compared."""
        figures = {name: self._figure(name) for name in (*self.sums, *self.pixels)}
        worst = min(figures, key=figures.__getitem__, default=None)
        return None if worst is None else TaskErrors(self.task, worst, figures[worst])

    def _figure(self, name: str) -> float:
        if self.task == "segment":
            counts = np.array(list(self.pixels[name].values()))
            seen = counts[counts[:, 0] >= SEEN * counts[:, 0].sum()]
            return float((seen[:, 1] / seen[:, 2]).mean())
        if self.task == "embed":
            total, count = self.sums[name]
            return float(total / count)
        error, total, squares, count = self.sums[name]
        spread = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        if error == 0:
            return 1.0
        return float(1 - error / count / spread) if spread > 0 else float("-inf")


def classes_of(output: Values) -> NDArray[np.int64]:
    """The class of each pixel: the channel with the highest score, the number itself, or whether it is in a mask.

    Args:
        output: (N, C, H, W), (N, H, W, C) or (N, H, W); a single channel is a mask, of probabilities where all values
            lie between 0 and 1, else of logits.
    """
    if output.dtype.kind in "biu":
        return output.astype(np.int64)
    shape = output.shape
    axis = 1 if output.ndim < 4 or not looks_channels_last(shape[1:]) else -1
    if output.ndim >= 4 and shape[axis] > 1:
        found: NDArray[np.int64] = output.argmax(axis=axis)
        return found
    is_probability = output.size > 0 and output.min() >= 0 and output.max() <= 1
    return (output > (0.5 if is_probability else 0.0)).astype(np.int64)
