"""Activations: elementwise, gated, and over one axis."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__ = ["SIMPLE"]

SIMPLE: dict[str, Operator] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": lambda x: F.softplus(x, threshold=math.inf) if x.dtype is torch.float64 else F.softplus(x),
    "Softsign": F.softsign,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
}
"""Activations without attributes."""


@register(*SIMPLE)
def simple(node: Node) -> Operator:
    """One torch function."""
    return SIMPLE[node.op_type]


@register("LeakyRelu")
def leaky_relu(node: Node) -> Operator:
    """x where positive, alpha * x elsewhere."""
    alpha = node.number("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@register("PRelu")
def prelu(node: Node) -> Operator:
    """x where positive, slope * x elsewhere; the slope broadcasts."""
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@register("Elu")
def elu(node: Node) -> Operator:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    alpha = node.number("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@register("Celu")
def celu(node: Node) -> Operator:
    """Continuously differentiable ELU (Barron 2017)."""
    alpha = node.number("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@register("Selu")
def selu(node: Node) -> Operator:
    """Scaled ELU with any alpha and gamma."""
    alpha, gamma = node.number("alpha", 1.6732632), node.number("gamma", 1.050701)
    return lambda x: gamma * F.elu(x, alpha)


@register("ThresholdedRelu")
def thresholded_relu(node: Node) -> Operator:
    """x where above alpha, zero elsewhere."""
    alpha = node.number("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@register("HardSigmoid")
def hard_sigmoid(node: Node) -> Operator:
    """alpha * x + beta, cut to 0..1."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return lambda x: (x * alpha + beta).clamp(0, 1)


@register("Shrink")
def shrink(node: Node) -> Operator:
    """Towards zero by bias beyond -lambd..lambd, zero between."""
    bias, limit = node.number("bias"), node.number("lambd", 0.5)

    def run(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero)).to(x.dtype)

    return run


@register("Gelu", since=20)
@register("Gelu", domain="com.microsoft")
def gelu(node: Node) -> Operator:
    """Gaussian error linear unit, exact or by tanh."""
    approximate = node.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


@register("Swish", since=24)
def swish(node: Node) -> Operator:
    """x * sigmoid(alpha * x)."""
    alpha = node.number("alpha", 1.0)
    return F.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


@register("Clip")
def clip_by_attributes(node: Node) -> Operator:
    """Clip with its limits as attributes."""
    low, high = node.number("min", -math.inf), node.number("max", math.inf)
    return lambda x: _clip(x, low, high)


@register("Clip", since=11)
def clip(node: Node) -> Operator:
    """Clip with its limits as inputs; constants become Python numbers."""
    low, high = node.constant(1), node.constant(2)
    if (low is None) == node.has(1) or (high is None) == node.has(2):
        return _clip_tensors
    least = None if low is None else low.item()
    most = None if high is None else high.item()
    if least is None and most is None:
        return lambda x, *_: x
    return lambda x, *_: _clip(x, least, most)


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is None or high is None or low > high or not x.is_floating_point():
        return torch.clamp(x, low, high)
    return F.hardtanh(x, low, high)  # the same values; its backward is one kernel, 20 times faster than clamp's


def _clip_tensors(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _along(node: Node, function: str, default: int) -> Operator:
    axis = node.integer("axis", default)
    if function == "Hardmax":
        return lambda x: _hardmax(x, axis)
    return (lambda x: torch.softmax(x, axis)) if function == "Softmax" else (lambda x: torch.log_softmax(x, axis))


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


@register("Softmax", "LogSoftmax", "Hardmax")
def softmax_flattened(node: Node) -> Operator:
    """Over all axes from ``axis`` on together, as before opset 13."""
    axis, over_last = node.integer("axis", 1), _along_last(node)

    def run(x: Tensor) -> Tensor:
        split = axis % max(x.dim(), 1)
        result = over_last(x.reshape(math.prod(x.shape[:split]), -1))
        assert isinstance(result, Tensor)
        return result.reshape(x.shape)

    return run


def _along_last(node: Node) -> Operator:
    if node.op_type == "Hardmax":
        return lambda x: _hardmax(x, -1)
    return (lambda x: torch.softmax(x, -1)) if node.op_type == "Softmax" else (lambda x: torch.log_softmax(x, -1))


@register("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(node: Node) -> Operator:
    """Over one axis."""
    return _along(node, node.op_type, -1)
