"""Propagate BatchNormalization's moments through a graph.

Rules: (1) the input of a BatchNormalization has the running mean and variance, its output beta and gamma squared, both
normal; (2) another activation function works on a normal distribution that is cut off at its ends; (3) a sum or a
product is of independent tensors; (4) a mean over positions narrows by the fourth root of their number; a maximum, and
what only moves values, leaves a channel as it is; (5) a linear layer without BatchNormalization behind it has
independent inputs; (6) where it is no longer known which values belong to which channel, all channels are one.
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
from dfq_deploy.synthesis.moments.moments import Moments, joined, linear, pooled, product, through, total
from dfq_deploy.twin import Step, Twin

__all__ = ["MomentsByName", "batch_norm_moments", "propagate"]

MomentsByName: TypeAlias = dict[str, Moments]
"""Tensor name -> its channels."""

ELEMENTWISE = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Sigmoid", "HardSigmoid", "HardSwish",
    "Tanh", "Softplus", "Softsign", "ThresholdedRelu", "Erf", "Exp", "Sqrt", "Abs", "Neg", "Reciprocal", "Swish",
    "com.microsoft::Gelu",
})  # fmt: skip
MOVING = frozenset({"Identity", "Dropout", "MaxPool", "Cast", "Resize", "Upsample", "Pad", "Unsqueeze"})
"""A channel stays what it was, though not at every position."""

MIXING = frozenset(
    {"Squeeze", "Reshape", "Transpose", "Slice", "Gather", "Split", "DepthToSpace", "SpaceToDepth", "ReduceMax"}
)
POOLING = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


def batch_norm_moments(model: ir.Model, reach: float) -> MomentsByName:
    """What each BatchNormalization of ``model`` says of its input and its output (rule 1)."""
    found: MomentsByName = {}
    for node in batch_normalizations(model):
        constants = [constant_of(value) for value in node.inputs[1:5]]
        if all(constant is not None for constant in constants):
            gamma, beta, mean, var = (
                torch.from_numpy(c.numpy().astype(np.float64)) for c in constants if c is not None
            )
            found.setdefault(name_of(node.inputs[0]), Moments.normal(mean, var, reach))
            found[name_of(node.outputs[0])] = Moments.normal(beta, gamma.square(), reach)
    return found


def propagate(
    model: ir.Model, known: Mapping[str, Moments], inputs: Mapping[str, Moments], reach: float
) -> MomentsByName:
    """Every float tensor of ``model`` of which something can be said, from ``known`` ones and the ``inputs``.

    Args:
        known: stands before the rules, also where the graph has been folded since.
    """
    found = {**inputs, **known}
    try:
        steps = {step.outputs[0]: step for step in Twin.from_model(model).steps}
    except ModelError:
        steps = {}
    for node in model.graph:
        name = name_of(node.outputs[0])
        if name not in known and (moments := _carry(node, found, steps.get(name), reach)) is not None:
            found[name] = moments
            found.update((name_of(extra), moments) for extra in node.outputs[1:] if is_op(node, "Split"))
    return found


def _carry(node: ir.Node, found: MomentsByName, step: Step | None, reach: float) -> Moments | None:
    kind = operator_of(node)
    if kind in ("Add", "Sub", "Mul", "Div") and len(node.inputs) == 2:
        return _arithmetic(node, found, reach)
    if kind == "Concat":
        return _concat(node, found)
    first = found.get(name_of(node.inputs[0])) if node.inputs else None
    if first is None:
        return None
    moments: Moments | None = None
    if kind in ELEMENTWISE:
        moments = _activated(node, first, step)
    elif kind in WEIGHTED_OPS:
        moments = _linear(node, first, reach)
    elif kind in POOLING:
        moments = pooled(first, _positions(node), reach)
    elif kind == "Flatten":
        size = _size(node.inputs[0])
        moments = first if len(first) == 1 or size is None else first.repeated(size)
    elif kind in MOVING:
        moments = first
    elif kind in MIXING:
        moments = first if _keeps_channels(node) else first.mixed()
    return moments


def _activated(node: ir.Node, first: Moments, step: Step | None) -> Moments | None:
    """Rule 2, with the twin's own operator; its further inputs (a Clip's ends) must be constants."""
    if step is None:
        return None
    rest = [None if value is None else constant_of(value) for value in node.inputs[1:]]
    if any(value is not None and constant is None for value, constant in zip(node.inputs[1:], rest, strict=True)):
        return None
    further = [None if constant is None else torch.from_numpy(constant.numpy().copy()) for constant in rest]
    if any(constant is not None and constant.numel() > 1 for constant in further):
        further = [None if constant is None else constant.reshape(-1) for constant in further]
        if any(constant is not None and constant.numel() not in (1, len(first)) for constant in further):
            return None

    def function(values: Tensor) -> Tensor:
        return step.operator(values, *further)  # type: ignore[return-value,no-any-return,unused-ignore]

    return through(first, function)


def _arithmetic(node: ir.Node, found: MomentsByName, reach: float) -> Moments | None:
    gated = _gated(node, found) if is_op(node, "Mul") else None
    if gated is not None:
        return gated
    first, second = (_side(value, found) for value in node.inputs)
    if first is None or second is None or (len(first) != len(second) and 1 not in (len(first), len(second))):
        return None
    if is_op(node, "Sub"):
        second = Moments(-second.mean, second.var, -second.high, -second.low)
    if is_op(node, "Div"):
        if bool((second.low != second.high).any()) or bool((second.low == 0).any()):
            return None
        second = through(second, torch.reciprocal)
    return product(first, second) if is_op(node, ("Mul", "Div")) else total(first, second, reach)


def _gated(node: ir.Node, found: MomentsByName) -> Moments | None:
    """``x * sigmoid(x)`` as two nodes: its factors are anything but independent."""
    for gate, value in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        producer = None if gate is None else gate.producer()
        moments = found.get(name_of(value))
        if producer is None or moments is None or value is not producer.inputs[0]:
            continue
        if is_op(producer, "Sigmoid"):
            return through(moments, torch.nn.functional.silu)
        if is_op(producer, "HardSigmoid"):
            return through(moments, partial(_hard_gate, producer))
    return None


def _hard_gate(gate: ir.Node, values: Tensor) -> Tensor:
    """``x * HardSigmoid(x)``; the defaults are the operator's."""
    slope, offset = (float(gate.attributes.get_float(*pair)) for pair in (("alpha", 0.2), ("beta", 0.5)))
    return values * (slope * values + offset).clamp(0, 1)


def _side(value: ir.Value | None, found: MomentsByName) -> Moments | None:
    """A tensor, or a constant as channels without variance."""
    constant = constant_of(value)
    if constant is None:
        return found.get(name_of(value))
    flat = torch.from_numpy(constant.numpy().copy()).double().reshape(-1)
    return Moments(flat, torch.zeros_like(flat), flat, flat)


def _concat(node: ir.Node, found: MomentsByName) -> Moments | None:
    parts = [_side(value, found) for value in node.inputs]
    whole = [part for part in parts if part is not None]
    if not whole or len(whole) < len(parts):
        return None
    if node.attributes.get_int("axis", 0) == 1:
        sizes = [None if value is None or value.shape is None else value.shape[1] for value in node.inputs]
        return joined([
            part.broadcast_to(size) if isinstance(size, int) else part for part, size in zip(whole, sizes, strict=True)
        ])  # fmt: skip
    return joined([part.mixed() for part in whole]).mixed()


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
        first = first.mixed()
    shift = None if bias is None else torch.from_numpy(bias.numpy().copy()).reshape(-1)
    return linear(first, rows, shift, reach)


def _keeps_channels(node: ir.Node) -> bool:
    """True where a Reshape or the like leaves the channels where they were: (N, C, 1, 1) to (N, C)."""
    before, after = ([] if v is None or v.shape is None else list(v.shape) for v in (node.inputs[0], node.outputs[0]))
    if not is_op(node, ("Reshape", "Squeeze")) or len(before) < 2 or len(after) < 2 or before[1] != after[1]:
        return False
    return isinstance(before[1], int) and all(dim == 1 for dim in (*before[2:], *after[2:]))


def _positions(node: ir.Node) -> int:
    """How many values a pooling takes the mean of; 1 where that is not known."""
    if is_op(node, "AveragePool"):
        return math.prod(node.attributes["kernel_shape"].as_ints())
    return _size(node.inputs[0]) or 1


def _size(value: ir.Value | None) -> int | None:
    """Number of positions of a channel of (N, C, ...)."""
    if value is None or value.shape is None:
        return None
    rest = [dim for dim in list(value.shape)[2:] if isinstance(dim, int)]
    return math.prod(rest) if len(rest) == len(value.shape) - 2 else None
