"""Run a model once, to see at which shapes of its inputs it runs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.main_input import SAMPLE_RATE, says_sample_rate
from dfq_deploy.runtime.session import RUNTIME_ERRORS, Session, runtime_message, session_options

__all__ = ["Sizes", "Trial"]

Sizes = dict[str, ir.Shape]
"""Shapes of inputs by name; where a dimension is open, the batch is meant."""


NO_VALUES: Mapping[str, int] = MappingProxyType({})


class Trial:
    """A session of a model, to see which shapes it runs at; without optimizations, which cost more than they save."""

    def __init__(self, model: ir.Model, session: Session) -> None:
        self.values = input_values(model)
        self.session = session

    @classmethod
    def of(cls, model: ir.Model) -> "Trial | None":
        """None where ONNX Runtime does not load the model (a custom operator): nothing is tried then."""
        options = session_options(quiet_threads=True)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return cls(model, Session(model, options, ["CPUExecutionProvider"]))
        except RUNTIME_ERRORS:
            return None

    @staticmethod
    def loads(model: ir.Model) -> bool:
        """Whether ONNX Runtime loads the model with its optimizations, which infer the shapes in every branch."""
        options = session_options(quiet_threads=True)
        try:
            Session(model, options, ["CPUExecutionProvider"])
        except RUNTIME_ERRORS:
            return False
        return True

    def run(
        self, shapes: Sizes, batch: int, fills: Sequence[int] = (1, 0), own: Mapping[str, int] = NO_VALUES
    ) -> list[NDArray[Any]] | str:
        """The outputs on inputs of one value, and a sample rate where one is asked for, or ONNX Runtime's message.

        Args:
            fills: values to try; an index of 1 may lie behind a table of one row, and a scale of 0 is none.
            own: input name -> its value, whatever the others get.
        """
        message = ""
        for fill in fills:
            feeds = {
                str(value.name): _filled(value, shapes, batch, own.get(str(value.name), fill)) for value in self.values
            }
            try:
                return [np.asarray(array) for array in self.session.run(None, feeds)]
            except RUNTIME_ERRORS as problem:
                message = message or runtime_message(problem)
        return message


def _filled(value: ir.Value, shapes: Sizes, batch: int, fill: int) -> NDArray[Any]:
    shape = shapes.get(str(value.name), value.shape) or ()
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    sizes = [dim if isinstance(dim, int) else batch for dim in shape]
    is_rate = np.issubdtype(dtype, np.integer) and np.prod(sizes) == 1 and says_sample_rate(str(value.name))
    return np.full(sizes, SAMPLE_RATE if is_rate else fill, dtype)
