"""Compare the outputs of the float and the quantized model on the same samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError
from dfq_deploy.evaluation.detection.head_errors import HeadErrors, HeadTally
from dfq_deploy.evaluation.metrics import Scores, ScoreTally
from dfq_deploy.evaluation.output_distance import OutputDistance, OutputTally
from dfq_deploy.evaluation.task_errors import TaskErrors, TaskTally
from dfq_deploy.graph.randomness import random_outputs
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Output, Runnable, Runner, slices
from dfq_deploy.samples.samples import Samples

__all__ = ["Collect", "Comparer", "Comparison", "compare"]

Collect: TypeAlias = Callable[[Sequence[Output], Sequence[Output]], None]
"""Called with the outputs of the float and of the quantized model."""


@dataclass(frozen=True)
class Comparison:
    """Figures of two models on the same samples.

    Args:
        count: number of samples.
        outputs: one entry for each output, in order.
        scores: of the output that holds class scores (:mod:`dfq_deploy.graph.task`); None where none does.
        left_out: outputs that are not compared, since their size depends on the sample.
        random: outputs that are not compared, since they differ from run to run: name -> the node that draws numbers.
        head: boxes and scores of a detector (:mod:`dfq_deploy.graph.detection`); None for other models.
        task: the figure of the task that is stated; None without one, for classes and for detectors.
        scored: name of the output that holds class scores; empty where none does.
    """

    count: int
    outputs: tuple[OutputDistance, ...]
    scores: Scores | None
    left_out: tuple[str, ...] = ()
    random: Mapping[str, str] = field(default_factory=dict)
    head: HeadErrors | None = None
    task: TaskErrors | None = None
    scored: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {
            "samples": self.count,
            **({} if self.scores is None else self.scores.to_json()),
            "outputs": [output.to_json() for output in self.outputs],
            **({"outputs_left_out": list(self.left_out)} if self.left_out else {}),
            **({"outputs_random": dict(self.random)} if self.random else {}),
            **({} if self.head is None else {"detector": self.head.to_json()}),
            **({} if self.task is None else {"task": self.task.to_json()}),
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on the outputs that could not be compared."""
        said = []
        if self.left_out:
            names = ", ".join(self.left_out)
            said.append(
                f"not compared, since their size depends on the sample: {names}; cut the model before them to do so"
            )
        if self.random:
            names = ", ".join(f"{name} ({node})" for name, node in self.random.items())
            said.append(f"not compared, since random numbers decide them in each run: {names}")
        return tuple(said)


def compare(
    reference: Runner | Runnable,
    quantized: Runner | Runnable,
    samples: Samples,
    progress: Progress = SILENT,
    *,
    collect: Collect | None = None,
) -> Comparison:
    """Compare the outputs. Memory does not grow with the number of samples.

    An output whose first axis is the batch is compared row by row; any other output is compared as a whole for each run
    of one batch, the same for both models. An output whose size differs between runs or models, such as the boxes of a
    detector after suppression, is left out.

    Args:
        collect: gets the outputs of both models for each slice of the samples, in order.

    Raises:
        ModelError: a model cannot be run, or their outputs do not match.
        SamplesError: the samples do not fit the models.
    """
    comparer = Comparer(reference, quantized, samples, collect=collect)
    progress.start("float against quantized", len(samples))
    comparer.add(samples, progress)
    return comparer.comparison()


class Comparer:
    """Compares the outputs of both models on samples that come in parts; see :func:`compare`.

    Args:
        samples: like those to come: of their shape, with labels where they have some.
    """

    def __init__(
        self,
        reference: Runner | Runnable,
        quantized: Runner | Runnable,
        samples: Samples,
        *,
        collect: Collect | None = None,
    ) -> None:
        first, second = (model if isinstance(model, Runner) else Runner(model) for model in (reference, quantized))
        for runner in (first, second):
            runner.check(samples.images.shape[1:])
        if len(first.output_names) != len(second.output_names):
            raise ModelError(
                f"{second.name}: has {len(second.output_names)} output(s) and {first.name} has "
                f"{len(first.output_names)}; compare a quantized model with the float model that it was made from"
            )
        self._runners, self._collect, self._count = (first, second), collect, 0
        # Outputs of the same names may stand in another order; others are told by their place.
        named = second.output_names if set(first.output_names) == set(second.output_names) else first.output_names
        self._places = [named.index(name) for name in first.output_names]
        spans = dict.fromkeys(first.probabilities(), 1.0)
        graph = first.graph()
        self._random = {} if graph is None else random_outputs(graph)
        self._tallies = {name: OutputTally(spans.get(name)) for name in first.output_names if name not in self._random}
        self._whole: dict[str, tuple[int, ...]] = {}
        labelled = samples.labels is not None
        self._scored = first.scores(labelled=labelled)
        self._scores = ScoreTally("" if self._scored is None else first.activation(self._scored))
        if labelled and self._scored is None:
            raise SamplesError(
                f"the samples have labels, and no output of {first.name} is known to hold class scores; say --task "
                "classify if one does, or leave the labels out"
            )
        self._head = HeadTally.of(first.head_parts(), samples.images.shape[1:])
        self._judged = TaskTally.of(first.task)

    def add(self, samples: Samples, progress: Progress = SILENT) -> None:
        """Run both models on more samples."""
        (first, second), classes = self._runners, _classes(samples)
        for part in slices(samples.images):
            chosen = samples.part(part)
            expected, answers = first.run(chosen), second.run(chosen)
            found = [answers[place] for place in self._places]
            if self._collect is not None:
                self._collect(expected, found)
            for name, wanted, given in zip(first.output_names, expected, found, strict=True):
                self._add(name, wanted, given)
            if self._head is not None:
                self._head.add(_arrays(first.output_names, expected), _arrays(first.output_names, found))
            if self._scored in self._tallies:
                position = first.output_names.index(self._scored)
                labels = None if classes is None else classes[part]
                _add_scores(self._scores, expected[position], found[position], labels)
            progress.advance(len(chosen))
        self._count += len(samples)

    def _add(self, name: str, wanted: Output, given: Output) -> None:
        if name not in self._tallies:
            return
        pairs = _pairs(name, wanted, given, self._whole, self._runners)
        if pairs is None:
            del self._tallies[name]
        for pair in pairs or ():
            self._tallies[name].add(*pair, rows=not isinstance(wanted, tuple))
            if self._judged is not None and pair[0].ndim > 0:
                self._judged.add(name, *pair)

    def comparison(self) -> Comparison:
        """The figures on all samples so far."""
        return Comparison(
            self._count,
            tuple(tally.distance(name) for name, tally in self._tallies.items()),
            self._scores.scores() if self._scores.same else None,
            tuple(name for name in self._runners[0].output_names if name not in {*self._tallies, *self._random}),
            self._random,
            None if self._head is None else self._head.errors(),
            None if self._judged is None else self._judged.errors(),
            self._scored or "",
        )


def _arrays(names: Sequence[str], outputs: Sequence[Output]) -> dict[str, NDArray[Any]]:
    """The outputs with a row for each sample, by name."""
    return {name: array for name, array in zip(names, outputs, strict=True) if not isinstance(array, tuple)}


def _pairs(
    name: str, wanted: Output, given: Output, whole: dict[str, tuple[int, ...]], runners: tuple[Runner, Runner]
) -> Sequence[tuple[NDArray[Any], NDArray[Any]]] | None:
    """The pairs of arrays to compare of one output; None if its size depends on the sample.

    ``whole`` keeps the shape of each output that has no batch axis.
    """
    if not isinstance(wanted, tuple) and not isinstance(given, tuple):
        if wanted.shape == given.shape:
            return [(wanted, given)]
        if name in runners[0].open_outputs:
            return None
        raise ModelError(
            f"{runners[1].name}: output '{name}' has shape {given.shape}, the float model's {wanted.shape}; compare a "
            "quantized model with the float model that it was made from"
        )
    ones, others = (part if isinstance(part, tuple) else (part,) for part in (wanted, given))
    shapes = {array.shape for array in (*ones, *others)} | {whole.setdefault(name, ones[0].shape)}
    return list(zip(ones, others, strict=True)) if len(ones) == len(others) and len(shapes) == 1 else None


def _add_scores(scores: ScoreTally, wanted: Output, given: Output, classes: NDArray[np.int64] | None) -> None:
    """Count the predicted classes if the output is a row of scores for each sample."""
    if isinstance(wanted, tuple) or isinstance(given, tuple):
        return
    width = _score_width(wanted)
    if width:
        labels = None if classes is None else _checked(classes, width)
        scores.add(wanted.reshape(-1, width), given.reshape(-1, width), labels)


def _classes(samples: Samples) -> NDArray[np.int64] | None:
    if samples.labels is None:
        return None
    return np.asarray(samples.labels.argmax(axis=1) if samples.labels.ndim == 2 else samples.labels, np.int64)


def _score_width(output: NDArray[Any]) -> int:
    """K if the output is (N, K), (N, K, 1, 1) or the like with at least two classes, else 0."""
    dims = [dim for dim in output.shape[1:] if dim != 1]
    return int(dims[0]) if len(dims) == 1 else 0


def _checked(labels: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    if labels.min() < 0 or labels.max() >= width:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        first = labels.min() == 1 and labels.max() == width
        way_out = (
            "they begin at 1: subtract 1 from each"
            if first
            else "number the classes in the order of the model's scores"
        )
        raise SamplesError(
            f"label {wrong} of the samples is outside the model's {width} classes (0 to {width - 1}); {way_out}"
        )
    return labels
