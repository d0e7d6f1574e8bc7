"""Sizes that operators require of an input, where its shape leaves them open: channels, features.

A file whose sizes are all declared open, channels too, still runs at one number of channels alone: that of the first
weight, scale or constant behind the input.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from dfq_deploy.graph.main_input import RECURRENT_OPS
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["required_sizes"]

Axes: TypeAlias = tuple[int | None, ...]
"""The axis of the input that each axis of a tensor runs along; None where it is another one."""

NORMALIZATIONS = ("BatchNormalization", "InstanceNormalization")

LAST_AXES_OPS = ("Add", "Div", "LayerNormalization", "Mul", "PRelu", "Pow", "RMSNormalization", "Sub")
"""They align what they read at the last axes."""

SAME_SHAPE_OPS = frozenset(
    {"Abs", "Add", "Cast", "Clip", "DequantizeLinear", "Div", "Dropout", "Elu", "Exp", "Gelu", "HardSigmoid"}
    | {"HardSwish", "Identity", "LRN", "LeakyRelu", "Log", "LogSoftmax", "Mul", "Neg", "PRelu", "Pow"}
    | {
        "GroupNormalization",
        "QuantizeLinear",
        "Relu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
        *NORMALIZATIONS,
    }
    | {"LayerNormalization", "RMSNormalization"}
)
"""What they write has the shape of what they read, unless another operand has more dimensions."""

SPATIAL_OPS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Pad", "Resize", "Upsample"})
"""They keep samples and channels of (N, C, ...); a Pad or a Resize may change them, but hardly ever does."""


def required_sizes(value: ir.Value) -> dict[int, int]:
    """Axis of an input -> the only size at which the graph runs, for the axes where an operator tells.

    Args:
        value: an input of known rank.
    """
    found: dict[int, int] = {}
    rank = 0 if value.shape is None else len(value.shape)
    waiting: list[tuple[ir.Value, Axes]] = [(value, tuple(range(rank)))]
    seen = {value}
    while waiting:
        read, axes = waiting.pop()
        for node, place in read.uses():
            for axis, size in _required(node, place, len(axes)).items():
                source = axes[axis] if 0 <= axis < len(axes) else None
                if source is not None:
                    found.setdefault(source, size)
            behind = _axes_behind(node, place, axes)
            if any(axis is not None for axis in behind) and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                waiting.append((node.outputs[0], behind))
    return found


def _required(node: ir.Node, place: int, rank: int) -> Mapping[int, int]:
    """Sizes by axis that a node requires of the operand at ``place``, which has ``rank`` axes."""
    others = (None if at == place else _constant_shape(one) for at, one in enumerate(node.inputs))
    other = next((shape for shape in others if shape), None)
    if other is None:
        return {}
    if is_op(node, "MatMul"):
        return {rank - 1 if place == 0 or rank == 1 else rank - 2: other[-2:][0] if place == 0 else other[-1]}
    if is_op(node, LAST_AXES_OPS):
        return {rank - last: size for last, size in enumerate(reversed(other), 1) if size > 1}
    return _by_weight(node, other) if place == 0 else {}


def _by_weight(node: ir.Node, weight: Sequence[int]) -> Mapping[int, int]:
    """Sizes by axis that a node requires of its first operand, by the shape of the constant beside it."""
    flags = {name: node.attributes.get_int(name, 0) for name in ("transA", "transB")}
    if is_op(node, "Conv"):
        return {1: weight[1] * node.attributes.get_int("group", 1)}
    if is_op(node, "Gemm"):
        return {1 - flags["transA"]: weight[flags["transB"]]}
    if is_op(node, RECURRENT_OPS):
        return {2: weight[2]}
    return {1: weight[0]} if is_op(node, ("ConvTranspose", *NORMALIZATIONS)) else {}


def _axes_behind(node: ir.Node, place: int, axes: Axes) -> Axes:
    """Axes of what a node writes; empty where they are not known."""
    if is_op(node, "Transpose"):
        order = node.attributes.get_ints("perm", ()) or range(len(axes) - 1, -1, -1)
        return tuple(axes[axis] for axis in order)
    if is_op(node, SPATIAL_OPS):
        return (*axes[:2], *[None] * (len(axes) - 2))
    if is_op(node, SAME_SHAPE_OPS):
        operands: Sequence[Sequence[int] | None] = [_constant_shape(one) for one in node.inputs]
        widest = max((len(shape) for at, shape in enumerate(operands) if at != place and shape), default=0)
        return axes if widest <= len(axes) else ()
    return ()


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    constant = constant_of(value)
    return None if constant is None else tuple(constant.shape.numpy())
