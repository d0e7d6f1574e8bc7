"""Measure a figure of the user's own on the outputs of the float and the quantized model."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import OptionError, one_line
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.runtime.runner import Output, Runner

__all__ = ["Metric", "MetricFigures", "OutputStore", "measure_metric", "metric_name"]

Metric: TypeAlias = Callable[[dict[str, NDArray[Any]], NDArray[Any] | None], float]
"""``metric(outputs, labels)``: all outputs of one model by the float model's names, and the labels of the samples.

Each output is an array (N, ...), a row for each sample; where the size of an output depends on the sample, or its first
axis is not the batch, an array of objects, one for each run. Labels are those of the set, int64 (N,) classes or float32
(N, K); None where it has none. The result is one finite number; higher is better.
"""


@dataclass(frozen=True)
class MetricFigures:
    """What a metric says on the same samples.

    Args:
        name: of the function.
        of_float, of_quantized: its results; higher is better.
    """

    name: str
    of_float: float
    of_quantized: float

    @property
    def drop(self) -> float:
        """How much lower the quantized model is, in units of the metric."""
        return self.of_float - self.of_quantized

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {
            "name": self.name,
            "float": finite(self.of_float),
            "quantized": finite(self.of_quantized),
            "drop": finite(self.drop),
        }


@dataclass
class OutputStore:
    """All outputs of one model, collected slice by slice: memory grows with the samples.

    Args:
        runner: the model.
        names: what to call its outputs.
    """

    runner: Runner
    names: Sequence[str]
    parts: list[Sequence[Output]] = field(default_factory=list)

    def add(self, outputs: Sequence[Output]) -> None:
        """Keep the outputs of one slice."""
        self.parts.append(outputs)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every output by its name, as a :data:`Metric` takes it."""
        return {
            name: self._joined(column) for name, column in zip(self.names, zip(*self.parts, strict=True), strict=True)
        }

    def _joined(self, pieces: Sequence[Output]) -> NDArray[Any]:
        rows = [piece for piece in pieces if not isinstance(piece, tuple)]
        if len(rows) == len(pieces) and len({piece.shape[1:] for piece in rows}) == 1:
            return np.concatenate(rows)
        runs = [run for piece in pieces for run in (piece if isinstance(piece, tuple) else self._runs(piece))]
        objects = np.empty(len(runs), object)
        for index, run in enumerate(runs):
            objects[index] = run
        return objects

    def _runs(self, rows: NDArray[Any]) -> Sequence[NDArray[Any]]:
        """What each run of a slice gave, where all of them happened to give a row for each sample."""
        step = self.runner.batch or len(rows)
        return [rows[start : start + step] for start in range(0, len(rows), step)]


def metric_name(metric: Metric) -> str:
    """What people call it."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def measure_metric(
    metric: Metric, of_float: Mapping[str, NDArray[Any]], of_quantized: Mapping[str, NDArray[Any]], labels: Any
) -> MetricFigures:
    """Call ``metric`` with the outputs of either model.

    Raises:
        OptionError: it raises, or returns anything but one finite number.
    """
    figures = [_number(metric, dict(outputs), labels) for outputs in (of_float, of_quantized)]
    return MetricFigures(metric_name(metric), figures[0], figures[1])


def _number(metric: Metric, outputs: dict[str, NDArray[Any]], labels: Any) -> float:
    name = metric_name(metric)
    try:
        found: Any = metric(outputs, labels)
    except (Exception, SystemExit) as problem:
        raise OptionError(f"metric '{name}' raises {_raised(problem)}") from problem
    if isinstance(found, np.ndarray) and found.ndim == 0:
        found = found[()]
    if isinstance(found, bool | np.bool_) or not isinstance(found, numbers.Real):
        raise OptionError(f"metric '{name}' returns {_kind(found)}; it has to return one number, higher is better")
    if not math.isfinite(found):
        raise OptionError(f"metric '{name}' returns {found}; it has to return a finite number")
    return float(found)


def _kind(found: object) -> str:
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape}"
    return "None" if found is None else f"a value of type {type(found).__name__}"


def _raised(problem: BaseException) -> str:
    """Type, message, and the line of the innermost frame."""
    message, trace = one_line(problem, 300), problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
    return f"{type(problem).__name__}{message and f': {message}'}{place}"
