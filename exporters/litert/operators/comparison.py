"""Comparisons, choices and casts."""

import numpy as np

from ..orders import natural
from ..registry import operator
from ..step import Step
from ..writer import Stored

__all__ = ["cast", "compare", "where"]

COMPARISONS = {
    **{"Equal": ("EQUAL", "EqualOptions"), "Greater": ("GREATER", "GreaterOptions"), "Less": ("LESS", "LessOptions")},
    **{"GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqualOptions"), "And": ("LOGICAL_AND", "LogicalAndOptions")},
    **{"LessOrEqual": ("LESS_EQUAL", "LessEqualOptions"), "Or": ("LOGICAL_OR", "LogicalOrOptions")},
}


@operator(*COMPARISONS, data=(0, 1))
def compare(step: Step) -> None:
    """EQUAL, GREATER and their like."""
    code, table = COMPARISONS[step.node.op_type]
    order = step.preferred_order(len(step.shape))
    step.write(code, [step.operand(index, order) for index in range(2)], order, table)


@operator("Not")
def invert(step: Step) -> None:
    """LOGICAL_NOT."""
    entry = step.input(0)
    step.write("LOGICAL_NOT", [entry.tensor], entry.order, "LogicalNotOptions")


@operator("Where", data=(0, 1, 2))
def where(step: Step) -> None:
    """SELECT_V2."""
    order = step.preferred_order(len(step.shape))
    step.write("SELECT_V2", [step.operand(index, order) for index in range(3)], order, "SelectV2Options")


@operator("Cast")
def cast(step: Step) -> None:
    """CAST."""
    entry = step.input(0)
    output = step.output(entry.order)
    options = {"inDataType": str(entry.tensor.dtype), "outDataType": str(output.dtype)}
    step.writer.emit("CAST", [entry.tensor], output, "CastOptions", options)
    step.store(output, entry.order)


@operator("ArgMax", "ArgMin")
def arg_extreme(step: Step) -> None:
    """ARG_MAX or ARG_MIN, in the order of the graph."""
    rank = len(step.input(0).order)
    source = step.input(0, natural(rank)).tensor
    axis = step.integer("axis", 0) % rank
    code = "ARG_MAX" if step.node.op_type == "ArgMax" else "ARG_MIN"
    table = "ArgMaxOptions" if code == "ARG_MAX" else "ArgMinOptions"
    shape = [size for index, size in enumerate(source.shape) if index != axis]
    found = step.temporary(shape, dtype=np.int64)
    step.writer.emit(code, [source, step.writer.numbers("axis", axis)], found, table, {"outputType": 4})
    step.values.put(step.final, Stored(step.writer.reshape(found, step.shape), natural(len(step.shape))))
