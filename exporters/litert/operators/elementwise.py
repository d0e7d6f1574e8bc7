"""Arithmetic of two tensors, and functions of one."""

import numpy as np

from ..registry import Unsupported, operator
from ..step import Step
from ..values import constant_array

__all__ = ["binary", "unary"]

TABLES = {
    **{"Add": ("ADD", "AddOptions"), "Sub": ("SUB", "SubOptions"), "Mul": ("MUL", "MulOptions")},
    **{"Div": ("DIV", "DivOptions"), "Max": ("MAXIMUM", "MaximumMinimumOptions"), "Pow": ("POW", "PowOptions")},
    **{"Min": ("MINIMUM", "MaximumMinimumOptions"), "Sum": ("ADD", "AddOptions")},
}

FUNCTIONS = {
    **{"Abs": "ABS", "Ceil": "CEIL", "Cos": "COS", "Exp": "EXP", "Floor": "FLOOR", "Log": "LOG", "Neg": "NEG"},
    **{"Round": "ROUND", "Sign": "SIGN", "Sin": "SIN", "Sqrt": "SQRT"},
}


@operator("Add", "Sub", "Mul", kind="kernel", data=(0, 1), fuses=True)
def binary(step: Step) -> None:
    """ADD, SUB or MUL, in the order of the larger operand."""
    code, table = TABLES[step.node.op_type]
    rank = len(step.shape)
    order = step.preferred_order(rank)
    step.write(code, [step.operand(index, order) for index in range(2)], order, table)


@operator("Div", data=(0, 1), fuses=True)
def divide(step: Step) -> None:
    """DIV; by a constant MUL, which is faster."""
    divisor = step.constant(1)
    rank = len(step.shape)
    order = step.preferred_order(rank)
    if divisor is None or divisor.dtype != np.float32 or not np.all(divisor):
        step.write("DIV", [step.operand(index, order) for index in range(2)], order, "DivOptions")
        return
    expanded = (1 / divisor.astype(np.float64)).astype(np.float32)
    expanded = expanded.reshape((1,) * (rank - divisor.ndim) + divisor.shape).transpose(order)
    factor = step.constant_operand(f"{step.node.name}_reciprocal", expanded)
    step.write("MUL", [step.operand(0, order), factor], order, "MulOptions")


@operator("Max", "Min", "Sum", "Pow", data=None)
def several(step: Step) -> None:
    """MAXIMUM, MINIMUM, ADD or POW, one operand after another."""
    code, table = TABLES[step.node.op_type]
    rank, inputs = len(step.shape), step.node.inputs
    order = step.preferred_order(rank)
    if len(inputs) == 1:
        step.store(step.operand(0, order), order)
        return
    result = step.operand(0, order)
    for index in range(1, len(inputs) - 1):
        operand = step.operand(index, order)
        partial = step.temporary(np.broadcast_shapes(result.shape, operand.shape))
        step.writer.emit(code, [result, operand], partial, table)
        result = partial
    step.write(code, [result, step.operand(len(inputs) - 1, order)], order, table)


@operator(*FUNCTIONS)
def unary(step: Step) -> None:
    """A function of one float tensor."""
    entry = step.input(0)
    step.write(FUNCTIONS[step.node.op_type], [entry.tensor], entry.order)


@operator("Reciprocal")
def reciprocal(step: Step) -> None:
    """1 / x."""
    entry = step.input(0)
    one = step.writer.constant("one", np.ones(1, np.float32))
    step.write("DIV", [one, entry.tensor], entry.order, "DivOptions")


@operator("Identity")
def identity(step: Step) -> None:
    """What is left of Identity copies an input to an output."""
    if constant_array(step.node.inputs[0]) is not None:
        raise Unsupported("an output is a constant")
    entry = step.input(0)
    step.store(entry.tensor, entry.order)
