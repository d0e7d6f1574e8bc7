"""What constants a node applies to its input, such as a mean and a deviation."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["AffineStep", "affine_step"]

Floats = NDArray[np.float64]

SCALER = "Scaler"
"""Of the domain ai.onnx.ml, in which scikit-learn's StandardScaler is exported."""


@dataclass(frozen=True)
class AffineStep:
    """One node that computes ``scale * x + shift`` of its input.

    Args:
        scale, shift: which broadcast against the input.
        mean, std: of the input in training, where the node is a BatchNormalization, which has measured them.
    """

    scale: Floats
    shift: Floats
    mean: Floats | None = None
    std: Floats | None = None


def affine_step(node: ir.Node, position: int) -> AffineStep | None:
    """What ``node`` applies to its input at ``position``; None for nodes that apply no constants, or divide by zero."""
    if node.op_type == SCALER and node.domain == "ai.onnx.ml":
        offset, scale = (np.asarray(node.attributes.get_floats(name, ())) for name in ("offset", "scale"))
        return AffineStep(scale, -offset * scale) if len(offset) and len(scale) else None
    if is_op(node, "BatchNormalization"):
        return _of_batch_normalization(node) if position == 0 else None
    if not is_op(node, ("Add", "Div", "Mul", "Sub")) or len(node.inputs) != 2:
        return None
    constant = constant_of(node.inputs[1 - position])
    if constant is None or (position and is_op(node, ("Div", "Sub"))):
        return None
    number = constant.numpy().astype(np.float64)
    if is_op(node, "Div") and not number.all():
        return None
    zero, one = np.zeros_like(number), np.ones_like(number)
    steps = {"Add": (one, number), "Sub": (one, -number), "Mul": (number, zero)}
    return AffineStep(*(steps[node.op_type] if node.op_type in steps else (1 / number, zero)))


def _of_batch_normalization(node: ir.Node) -> AffineStep | None:
    constants = [constant_of(value) for value in node.inputs[1:5]]
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or any(constant is None for constant in constants):
        return None
    axes = (-1, *(1,) * (len(shape) - 2))  # channels lie on axis 1
    gain, bias, mean, var = (
        constant.numpy().astype(np.float64).reshape(axes) for constant in constants if constant is not None
    )
    std = np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    return AffineStep(gain / std, bias - mean * gain / std, mean, std)
