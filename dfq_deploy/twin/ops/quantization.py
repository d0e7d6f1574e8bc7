"""QuantizeLinear and DequantizeLinear: the arithmetic of ONNX, without a gradient through the rounding."""

import torch
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


def _spread(values: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts over ``x``: per tensor, per channel or per block."""
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if values.dim() == 0 or values.numel() == 1:
        return values.reshape(())
    return values.reshape(-1, *[1] * (x.dim() - 1 - axis % x.dim()))


@register("QuantizeLinear", since=10)
def quantize_linear(node: Node) -> Operator:
    """round(x / scale) + zero point, saturated; ties go to the even number."""
    axis, block, code = node.integer("axis", 1), node.integer("block_size"), node.integer("output_dtype")
    asked = dtype_of(code, str(node)) if code else torch.uint8
    precision = node.integer("precision")

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = asked if zero is None else zero.dtype
        wide = x if not precision else x.to(dtype_of(precision, str(node)))
        levels = torch.round(wide / _spread(scale, x, axis, block))
        if zero is not None:
            levels = levels + _spread(zero.to(torch.int32), x, axis, block)
        limits = torch.iinfo(dtype)
        return levels.clamp(limits.min, limits.max).to(torch.int32).to(dtype)

    return run


@register("DequantizeLinear", since=10)
def dequantize_linear(node: Node) -> Operator:
    """(x - zero point) * scale."""
    axis, block, code = node.integer("axis", 1), node.integer("block_size"), node.integer("output_dtype")
    asked = dtype_of(code, str(node)) if code else None

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        levels = x.to(torch.int32)
        if zero is not None:
            levels = levels - _spread(zero.to(torch.int32), x, axis, block)
        return (levels * _spread(scale, x, axis, block)).to(asked or scale.dtype)

    return run


@register("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: Node) -> Operator:
    """To uint8 by the range of the tensor itself: levels, scale, zero point."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.min().clamp(max=0), x.max().clamp(min=0)
        scale = (high - low) / 255
        zero = torch.round(-low / scale).clamp(0, 255)
        levels = (torch.round(x / scale) + zero).clamp(0, 255)
        return levels.to(torch.uint8), scale, zero.to(torch.uint8)

    return run


@register("MatMulInteger", since=10)
def matmul_integer(node: Node) -> Operator:
    """Product of integers without their zero points."""

    def run(a: Tensor, b: Tensor, zero_a: Tensor | None = None, zero_b: Tensor | None = None) -> Tensor:
        left = a.int() if zero_a is None else a.int() - _rows(zero_a.int())
        return left @ (b.int() if zero_b is None else b.int() - zero_b.int())

    return run


def _rows(zero: Tensor) -> Tensor:
    return zero.unsqueeze(-1) if zero.dim() == 1 and zero.numel() > 1 else zero


@register("QLinearMatMul", since=10)
def qlinear_matmul(node: Node) -> Operator:
    """Product of quantized matrices, quantized again."""

    def run(a: Tensor, sa: Tensor, za: Tensor, b: Tensor, sb: Tensor, zb: Tensor, sy: Tensor, zy: Tensor) -> Tensor:
        product = (a.int() - _rows(za.int())) @ (b.int() - zb.int())
        levels = torch.round(product * (_rows(sa) * sb / sy)) + zy.int()
        limits = torch.iinfo(zy.dtype)
        return levels.clamp(limits.min, limits.max).to(zy.dtype)

    return run
