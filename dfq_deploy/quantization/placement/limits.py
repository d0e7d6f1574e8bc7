"""Bounds that Relu and Clip set on a tensor."""

from collections.abc import Iterable
from math import inf
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["UNBOUNDED", "Limits", "activation_limits", "known_limits"]

Limits: TypeAlias = tuple[float, float]
"""Smallest and largest value that a tensor can take."""


UNBOUNDED: Limits = (-inf, inf)


def activation_limits(node: ir.Node) -> Limits | None:
    """Return the interval that the encoding after a Relu or Clip may cover.

    If a Clip cuts on both sides of zero, half a step is left on each side, so that the rounded zero point never moves
    the encoding beyond the Clip.

    Returns:
        lower and upper bound; None for any other operator, bounds that are not constant, or an interval without zero.
    """
    if is_op(node, "Relu"):
        return (0.0, inf)
    if not is_op(node, "Clip"):
        return None
    bounds = list(UNBOUNDED)
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            constant = constant_of(value)
            if constant is None or constant.dtype != ir.DataType.FLOAT:
                return None
            bounds[index] = float(constant.numpy())
    low, high = bounds
    if not low <= 0.0 <= high or low == high:
        return None
    half_step = (high - low) / 512 if low < 0.0 < high and np.isfinite(high - low) else 0.0
    return (low + half_step, high - half_step)


def known_limits(nodes: Iterable[ir.Node], quantized: set[ir.Value]) -> dict[ir.Value, Limits]:
    """Return the limits of the quantized tensors that a Relu or Clip writes."""
    limits_by_value = {}
    for node in nodes:
        limits = activation_limits(node)
        if limits is not None and node.outputs[0] in quantized:
            limits_by_value[node.outputs[0]] = limits
    return limits_by_value
