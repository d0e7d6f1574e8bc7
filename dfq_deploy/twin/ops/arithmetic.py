"""Elementwise arithmetic, with numpy's broadcasting."""

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__ = ["BINARY", "UNARY", "aligned"]

UNARY: dict[str, Operator] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Ceil": torch.ceil,
    "Floor": torch.floor,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Det": torch.linalg.det,
}
"""One tensor in, no attributes."""


@register(*UNARY)
def unary(node: Node) -> Operator:
    """One torch function."""
    return UNARY[node.op_type]


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or a.is_complex():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")  # integers are cut towards zero


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """The result has the base's type."""
    if base.is_floating_point() or not exponent.is_floating_point():
        return torch.pow(base, exponent).to(base.dtype)
    return torch.pow(base.to(torch.float64), exponent).to(base.dtype)


BINARY: dict[str, Operator] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divide,
    "Pow": _power,
}
"""Two tensors in, no attributes."""


def aligned(function: Operator, axis: int | None) -> Operator:
    """Broadcasting before opset 7: the second shape starts at ``axis`` of the first, by default at its end."""

    def run(a: Tensor, b: Tensor) -> Tensor | tuple[Tensor, ...]:
        if axis is not None and b.dim():
            b = b.reshape(*b.shape, *[1] * (a.dim() - axis % a.dim() - b.dim()))
        return function(a, b)

    return run


@register(*BINARY)
def legacy_binary(node: Node) -> Operator:
    """Elementwise with the ``axis`` attribute of the first opsets."""
    axis = node.attributes.get("axis")
    return aligned(BINARY[node.op_type], None if axis is None else axis.as_int())


@register(*BINARY, since=7)
def binary(node: Node) -> Operator:
    """Elementwise."""
    if node.op_type == "Pow":
        return _power_by_constant(node)
    return BINARY[node.op_type]


def _power_by_constant(node: Node) -> Operator:
    exponent = node.constant(1)
    if exponent is None or exponent.numel() != 1 or exponent.dim() > 1:
        return _power
    number = exponent.item()
    if number == 2:
        return lambda x, _: torch.square(x)
    return lambda x, _: torch.pow(x, number) if x.is_floating_point() else _power(x, exponent)


@register("Mod", since=10)
def mod(node: Node) -> Operator:
    """Remainder with the divisor's sign, with ``fmod`` with the dividend's."""
    return torch.fmod if node.integer("fmod") else torch.remainder


@register("BitShift", since=11)
def bit_shift(node: Node) -> Operator:
    """Shift of unsigned integers."""
    left = node.text("direction") == "LEFT"

    def run(x: Tensor, amount: Tensor) -> Tensor:
        wide, by = x.to(torch.int64), amount.to(torch.int64)
        return (wide << by if left else wide >> by).to(x.dtype)

    return run


VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Sum": torch.add,
    "Mean": torch.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
}


@register("Sum", "Max", "Min", "Mean")
def variadic(node: Node) -> Operator:
    """Over any number of tensors, elementwise."""
    function = VARIADIC[node.op_type]
    count = len(node.inputs) if node.op_type == "Mean" else 1
    if count == 1:
        return lambda *inputs: reduce(function, inputs)
    return lambda *inputs: reduce(function, inputs) / count


@register("CumSum", arguments=(1,), since=11)
@register("CumProd", arguments=(1,), since=26)
def cumulative(node: Node) -> Operator:
    """Running sum or product along one axis."""
    axis_of, exclusive, backwards = node.integer_at(1), node.integer("exclusive"), node.integer("reverse")
    function, first = (torch.cumsum, 0) if node.op_type == "CumSum" else (torch.cumprod, 1)

    def run(x: Tensor, axis_tensor: Tensor) -> Tensor:
        axis = axis_of(axis_tensor)
        y = x.flip(axis) if backwards else x
        if exclusive:
            start = torch.full_like(y.narrow(axis, 0, 1), first)
            y = torch.cat([start, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
        y = function(y, axis).to(x.dtype)
        return y.flip(axis) if backwards else y

    return run


@register("Einsum", since=12)
def einsum(node: Node) -> Operator:
    """Einstein's summation."""
    equation = node.text("equation").replace(" ", "")
    return lambda *inputs: torch.einsum(equation, *inputs)


@register("BitCast", since=26)
def bit_cast(node: Node) -> Operator:
    """The same bits as another type of the same width."""
    dtype = dtype_of(node.integer("to"), str(node))
    return lambda x: x.view(dtype)


@register("IsNaN", since=9)
def is_nan(node: Node) -> Operator:
    """True where not a number."""
    return torch.isnan


@register("IsInf", since=10)
def is_inf(node: Node) -> Operator:
    """True where infinite, of the signs asked for."""
    signs = [sign for name, sign in (("detect_positive", 1), ("detect_negative", -1)) if node.integer(name, 1)]

    def run(x: Tensor) -> Tensor:
        result = torch.zeros_like(x, dtype=torch.bool)
        for sign in signs:
            result |= x == sign * math.inf
        return result

    return run
