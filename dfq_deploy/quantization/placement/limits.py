"""Limits that Relu and Clip set on a tensor."""

from collections.abc import Iterable
from math import inf
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["UNBOUNDED", "Limits", "known_limits", "limits_behind"]

Limits: TypeAlias = tuple[float, float]
"""The least and the greatest value that a tensor can take."""


UNBOUNDED: Limits = (-inf, inf)


def limits_behind(node: ir.Node) -> Limits | None:
    """What the encoding after a Relu or Clip may span; None where nothing is known, or zero is clipped away.

    Where a Clip cuts on both sides of zero, half a step is left on each side, so that rounding the zero point never
    reaches beyond it.
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
    """The limits of those that a Relu or Clip writes."""
    found = {}
    for node in nodes:
        limits = limits_behind(node)
        if limits is not None and node.outputs[0] in quantized:
            found[node.outputs[0]] = limits
    return found
