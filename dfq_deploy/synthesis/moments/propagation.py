"""Propagate BatchNormalization's moments through a graph.

Rules: (1) the input of a BatchNormalization has the running mean and variance, its output beta and gamma squared, both
normal; (2) an activation function is applied to a normal distribution clipped to its bounds; (3) the operands of a sum
or a product are independent; (4) a mean over positions divides the standard deviation by the fourth root of their
number; a maximum, and operators that only move values, keep the moments of a channel; (5) the inputs of a linear layer
without a following BatchNormalization are independent; (6) if an operator mixes the channels, they are replaced by
their mixture.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op, operator_of
from dfq_deploy.graph.query import batch_normalizations, constant_of, name_of
from dfq_deploy.synthesis.moments.moments import Moments, add, apply_elementwise, average, concatenate, linear, multiply
from dfq_deploy.twin import Step, Twin

__all__ = ["MomentsByName", "batch_norm_moments", "propagate"]

MomentsByName: TypeAlias = dict[str, Moments]
"""Tensor name -> moments of its channels."""

ELEMENTWISE = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Sigmoid", "HardSigmoid", "HardSwish",
    "Tanh", "Softplus", "Softsign", "ThresholdedRelu", "Erf", "Exp", "Sqrt", "Abs", "Neg", "Reciprocal", "Swish",
    "com.microsoft::Gelu",
})  # fmt: skip
MOVING = frozenset({"Identity", "Dropout", "MaxPool", "Cast", "Resize", "Upsample", "Pad", "Unsqueeze"})
"""Operators that keep the channels, although not every value."""

MIXING = frozenset(
    {"Squeeze", "Reshape", "Transpose", "Slice", "Gather", "Split", "DepthToSpace", "SpaceToDepth", "ReduceMax"}
)
POOLING = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


def batch_norm_moments(model: ir.Model, reach: float) -> MomentsByName:
    """Moments of the input and the output of each BatchNormalization of ``model`` (rule 1)."""
    moments: MomentsByName = {}
    for node in batch_normalizations(model):
        constants = [constant_of(value) for value in node.inputs[1:5]]
        if all(constant is not None for constant in constants):
            gamma, beta, mean, var = (
                torch.from_numpy(c.numpy().astype(np.float64)) for c in constants if c is not None
            )
            moments.setdefault(name_of(node.inputs[0]), Moments.normal(mean, var, reach))
            moments[name_of(node.outputs[0])] = Moments.normal(beta, gamma.square(), reach)
    return moments


def propagate(
    model: ir.Model, known: Mapping[str, Moments], inputs: Mapping[str, Moments], reach: float
) -> MomentsByName:
    """Propagate the ``known`` moments and those of the ``inputs`` to all float tensors that the rules cover.

    Args:
        known: these take precedence over the rules; the graph may have been folded since they were computed.
    """
    moments = {**inputs, **known}
    try:
        steps = {step.outputs[0]: step for step in Twin.from_model(model).steps}
    except ModelError:
        steps = {}
    for node in model.graph:
        name = name_of(node.outputs[0])
        if name not in known and (result := _propagate_node(node, moments, steps.get(name), reach)) is not None:
            moments[name] = result
            moments.update((name_of(extra), result) for extra in node.outputs[1:] if is_op(node, "Split"))
    return moments


def _propagate_node(node: ir.Node, moments: MomentsByName, step: Step | None, reach: float) -> Moments | None:
    """The moments of the output of a node; None if no rule covers it."""
    op_type = operator_of(node)
    if op_type in ("Add", "Sub", "Mul", "Div") and len(node.inputs) == 2:
        return _arithmetic(node, moments, reach)
    if op_type == "Concat":
        return _concat(node, moments)
    first = moments.get(name_of(node.inputs[0])) if node.inputs else None
    if first is None:
        return None
    result: Moments | None = None
    if op_type in ELEMENTWISE:
        result = _elementwise(node, first, step)
    elif op_type in WEIGHTED_OPS:
        result = _linear(node, first, reach)
    elif op_type in POOLING:
        result = average(first, _positions(node), reach)
    elif op_type == "Flatten":
        size = _size(node.inputs[0])
        result = first if len(first) == 1 or size is None else first.repeat(size)
    elif op_type in MOVING:
        result = first
    elif op_type in MIXING:
        result = first if _keeps_channels(node) else first.mixture()
    return result


def _elementwise(node: ir.Node, first: Moments, step: Step | None) -> Moments | None:
    """Rule 2, with the twin's own operator; its other inputs (e.g. the bounds of a Clip) must be constants."""
    if step is None:
        return None
    constants = [None if value is None else constant_of(value) for value in node.inputs[1:]]
    if any(value is not None and constant is None for value, constant in zip(node.inputs[1:], constants, strict=True)):
        return None
    arguments = [None if constant is None else torch.from_numpy(constant.numpy().copy()) for constant in constants]
    if any(argument is not None and argument.numel() > 1 for argument in arguments):
        arguments = [None if argument is None else argument.reshape(-1) for argument in arguments]
        if any(argument is not None and argument.numel() not in (1, len(first)) for argument in arguments):
            return None

    def function(values: Tensor) -> Tensor:
        return step.operator(values, *arguments)  # type: ignore[return-value,no-any-return,unused-ignore]

    return apply_elementwise(first, function)


def _arithmetic(node: ir.Node, moments: MomentsByName, reach: float) -> Moments | None:
    gated = _gated_activation(node, moments) if is_op(node, "Mul") else None
    if gated is not None:
        return gated
    first, second = (_operand(value, moments) for value in node.inputs)
    if first is None or second is None or (len(first) != len(second) and 1 not in (len(first), len(second))):
        return None
    if is_op(node, "Sub"):
        second = Moments(-second.mean, second.var, -second.high, -second.low)
    if is_op(node, "Div"):
        if bool((second.low != second.high).any()) or bool((second.low == 0).any()):
            return None
        second = apply_elementwise(second, torch.reciprocal)
    return multiply(first, second) if is_op(node, ("Mul", "Div")) else add(first, second, reach)


def _gated_activation(node: ir.Node, moments: MomentsByName) -> Moments | None:
    """``x * sigmoid(x)`` or ``x * HardSigmoid(x)`` as two nodes, whose factors are not independent; None for others."""
    for gate, value in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        producer = None if gate is None else gate.producer()
        operand = moments.get(name_of(value))
        if producer is None or operand is None or value is not producer.inputs[0]:
            continue
        if is_op(producer, "Sigmoid"):
            return apply_elementwise(operand, torch.nn.functional.silu)
        if is_op(producer, "HardSigmoid"):
            return apply_elementwise(operand, partial(_hard_swish, producer))
    return None


def _hard_swish(gate: ir.Node, values: Tensor) -> Tensor:
    """``x * HardSigmoid(x)``; the defaults are those of the operator."""
    slope, offset = (float(gate.attributes.get_float(*pair)) for pair in (("alpha", 0.2), ("beta", 0.5)))
    return values * (slope * values + offset).clamp(0, 1)


def _operand(value: ir.Value | None, moments: MomentsByName) -> Moments | None:
    """The moments of a tensor, or of a constant (without variance)."""
    constant = constant_of(value)
    if constant is None:
        return moments.get(name_of(value))
    flat = torch.from_numpy(constant.numpy().copy()).double().reshape(-1)
    return Moments(flat, torch.zeros_like(flat), flat, flat)


def _concat(node: ir.Node, moments: MomentsByName) -> Moments | None:
    operands = [_operand(value, moments) for value in node.inputs]
    parts = [operand for operand in operands if operand is not None]
    if not parts or len(parts) < len(operands):
        return None
    if node.attributes.get_int("axis", 0) == 1:
        sizes = [None if value is None or value.shape is None else value.shape[1] for value in node.inputs]
        return concatenate([
            part.broadcast_to(size) if isinstance(size, int) else part for part, size in zip(parts, sizes, strict=True)
        ])  # fmt: skip
    return concatenate([part.mixture() for part in parts]).mixture()


def _linear(node: ir.Node, first: Moments, reach: float) -> Moments | None:
    """Rule 5."""
    constant = constant_of(node.inputs[1])
    if constant is None:
        return None
    weight = torch.from_numpy(constant.numpy().copy())
    if is_op(node, "ConvTranspose"):
        groups = node.attributes.get_int("group", 1)
        rest = weight.shape[2:]
        weight = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *rest).transpose(1, 2)
        weight = weight.reshape(-1, weight.shape[2], *rest)
    elif is_op(node, "MatMul") or not node.attributes.get_int("transB", int(is_op(node, "Conv"))):
        if weight.ndim != 2:
            return None
        weight = weight.T
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    rows = weight.reshape(*weight.shape[:2], -1)
    if len(first) % rows.shape[1] and len(first) > 1:
        first = first.mixture()
    shift = None if bias is None else torch.from_numpy(bias.numpy().copy()).reshape(-1)
    return linear(first, rows, shift, reach)


def _keeps_channels(node: ir.Node) -> bool:
    """True if a Reshape or Squeeze keeps the channel axis: (N, C, 1, 1) to (N, C)."""
    before, after = ([] if v is None or v.shape is None else list(v.shape) for v in (node.inputs[0], node.outputs[0]))
    if not is_op(node, ("Reshape", "Squeeze")) or len(before) < 2 or len(after) < 2 or before[1] != after[1]:
        return False
    return isinstance(before[1], int) and all(dim == 1 for dim in (*before[2:], *after[2:]))


def _positions(node: ir.Node) -> int:
    """Number of values that a pooling operator averages; 1 if unknown."""
    if is_op(node, "AveragePool"):
        return math.prod(node.attributes["kernel_shape"].as_ints())
    return _size(node.inputs[0]) or 1


def _size(value: ir.Value | None) -> int | None:
    """Number of positions per channel of (N, C, ...); None if unknown."""
    if value is None or value.shape is None:
        return None
    rest = [dim for dim in list(value.shape)[2:] if isinstance(dim, int)]
    return math.prod(rest) if len(rest) == len(value.shape) - 2 else None
