"""Rules for token ids, masks, lengths and scales."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import (
    ModelInput,
    closed_shape,
    has_batch_axis,
    input_values,
    looks_channels_last,
    main_input,
    model_inputs,
)
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.graph.traversal import walk

__all__ = ["InputRanges", "InputRule", "is_drawn", "refuse_unknown", "rule_of"]

InputRanges: TypeAlias = Mapping[str, tuple[float, float]]
"""Input name -> smallest and largest value to draw, both included."""

MOVING_OPS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Clip"})
"""What may stand between an input and the Gather that looks it up."""


@dataclass(frozen=True)
class InputRule:
    """How one input is drawn.

    Args:
        port: the input.
        shape: of one sample.
        values: one value for each element of the last axis, or for all; None draws.
        low, high: least and greatest value drawn, uniformly; None, both, is a normal distribution.
        why: where that comes from, for people.
    """

    port: ModelInput
    shape: tuple[int, ...]
    why: str
    values: tuple[float, ...] | None = None
    low: float | None = None
    high: float | None = None

    def draw(self, count: int, seed: int) -> NDArray[Any]:
        """``(count, *shape)``, in the input's own type; the same seed gives the same values."""
        generator = np.random.default_rng([seed, *self.port.name.encode()])
        shape, dtype = (count, *self.shape), np.dtype(self.port.dtype)
        if self.values is not None:
            return np.broadcast_to(np.asarray(self.values), shape).astype(dtype)
        if self.low is None or self.high is None:
            return generator.standard_normal(shape).astype(dtype)
        if self.port.is_float:
            return generator.uniform(self.low, self.high, shape).astype(dtype)
        return generator.integers(int(self.low), int(self.high), shape, endpoint=True).astype(dtype)

    def __str__(self) -> str:
        """A sentence for the report."""
        if self.values is not None:
            what = f"is {' x '.join(f'{value:g}' for value in self.values)}"
        elif self.low is None or self.high is None:
            what = "is drawn from a normal distribution"
        else:
            what = f"is drawn from {self.low:g} to {self.high:g}"
        return f"input '{self.port.name}' {what} ({self.why}); --input-range {self.port.name}:LO,HI draws it otherwise"


def is_drawn(port: ModelInput) -> bool:
    """True for a main input that is neither made of floats nor a picture of bytes."""
    return not port.is_float and not (port.dtype == "uint8" and port.shape is not None and len(port.shape) == 4)


def rule_of(model: ir.Model, port: ModelInput, ranges: InputRanges) -> InputRule:
    """How an input of ``model`` is drawn.

    Rules, the first that applies: (1) the range that the caller states; (2) a mask, or a bool, is all ones; (3) what a
    Gather looks up in a constant table is an index of its rows; (4) a length is that of the main input's longest axis;
    (5) a scale is 1, and the size of a picture is that of the main input; (6) other integers are 0 or 1, other floats
    normally distributed.

    Raises:
        ModelError: its size is open.
    """
    shape = _shape(model, port)
    if port.name in ranges:
        low, high = ranges[port.name]
        return InputRule(port, shape, "as --input-range says", low=low, high=high)
    table = None if port.is_float else _table(model, port.name)
    fixed = _fixed(port, shape, main_input(model_inputs(model)), table is not None)
    if fixed is not None:
        return InputRule(port, shape, fixed[0], values=fixed[1])
    if table is not None:
        return InputRule(port, shape, f"the rows of '{table[0]}'", low=0, high=table[1] - 1)
    if port.is_float:
        return InputRule(port, shape, "a float input beside the main one")
    return InputRule(port, shape, "no table that it would index was found", low=0, high=1)


def _fixed(
    port: ModelInput, shape: tuple[int, ...], main: ModelInput, indexes: bool
) -> tuple[str, tuple[float, ...]] | None:
    """Why an input has a value that needs no drawing, and which."""
    name = port.name.lower()
    sizes = [dim for dim in main.sample if dim is not None]
    if port.dtype == "bool" or "mask" in name:
        return "a mask that hides nothing", (1.0,)
    if "len" in name and not port.is_float and not indexes and sizes and port != main:
        return f"the longest axis of '{main.name}'", (float(max(sizes)),)
    if "scale" in name and port.is_float:
        return "nothing is scaled", (1.0,)
    if ("shape" in name or "size" in name) and shape[-1:] == (2,) and len(sizes) == 3:
        height, width = sizes[:2] if looks_channels_last(sizes) else sizes[1:]
        return f"height and width of '{main.name}'", (float(height), float(width))
    return None


def _shape(model: ir.Model, port: ModelInput) -> tuple[int, ...]:
    value = next(value for value in input_values(model) if value.name == port.name)
    main = main_input(model_inputs(model))
    if not port.shape and port.shape is not None:
        return ()
    rest = closed_shape(value)
    if has_batch_axis(port, main) or port.name == main.name or port.shape is None or port.shape[0] is None:
        return rest
    return (port.shape[0], *rest)


def _table(model: ir.Model, name: str) -> tuple[str, int] | None:
    """Name and number of rows of the smallest constant table that an input indexes."""
    value = next(value for value in input_values(model) if value.name == name)
    tables = sorted((rows, table) for table, rows in _lookups(value))
    return (tables[0][1], tables[0][0]) if tables else None


def _lookups(value: ir.Value) -> Iterator[tuple[str, int]]:
    """Name and number of rows of each constant table that ``value`` indexes, as it is or moved."""

    def moved(index: ir.Value) -> list[ir.Value]:
        return [use.node.outputs[0] for use in index.uses() if use.idx == 0 and is_op(use.node, MOVING_OPS)]

    for node, position in (use for index in walk([value], moved) for use in index.uses()):
        table = constant_of(node.inputs[0]) if is_op(node, "Gather") and position == 1 else None
        if table is not None and len(table.shape):
            yield name_of(node.inputs[0]), table.shape.numpy()[node.attributes.get_int("axis", 0)]


def refuse_unknown(model: ir.Model, ranges: InputRanges) -> None:
    """Refuse a range for an input that is not there, or that is no range.

    Raises:
        ModelError: says which.
    """
    names = [port.name for port in model_inputs(model)]
    for name, (low, high) in ranges.items():
        if name not in names:
            raise ModelError(f"no input '{name}' to give a range to; the model's inputs: {', '.join(names)}")
        if not low < high:
            raise ModelError(f"input '{name}': range {low:g} to {high:g} is empty; write the smaller value first")
