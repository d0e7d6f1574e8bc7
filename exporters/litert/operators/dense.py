"""Gemm and MatMul."""

from typing import Any

import numpy as np

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.query import name_of

from ..orders import Order, natural
from ..registry import operator
from ..step import Step
from ..tensors import Tensor
from ..values import constant_array
from ..writer import Stored
from .convolution import bias_of, weights_of

__all__ = ["gemm", "matmul"]


@operator("Gemm", kind="kernel", weight=1, fuses=True)
def gemm(step: Step) -> None:
    """FULLY_CONNECTED; ``alpha`` and ``beta`` are folded into the constants of a float one."""
    if constant_array(step.node.inputs[1]) is None or step.integer("transA", 0):
        _float_gemm(step)
        return
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    if (alpha, beta) != (1.0, 1.0):
        step.use_floats()
    weight, encoding = weights_of(step)
    if not step.integer("transB", 0):
        weight = weight.T
    if encoding is None:
        weight = (weight * np.float32(alpha)).astype(np.float32)
    source = step.input(0, natural(2)).tensor
    given = step.constant(2)
    if encoding is None and given is not None and (beta != 1.0 or given.size not in (1, len(weight))):
        _with_added_bias(step, source, weight, given.astype(np.float32) * np.float32(beta))
        return
    inputs = [source, _filters(step, weight, encoding), bias_of(step, source, encoding, len(weight))]
    step.write("FULLY_CONNECTED", inputs, natural(2), "FullyConnectedOptions", _options(source, encoding))


@operator("MatMul", kind="kernel", data=(0, 1), weight=1, fuses=True)
def matmul(step: Step) -> None:
    """FULLY_CONNECTED if the second factor is a constant matrix, else BATCH_MATMUL."""
    values = constant_array(step.node.inputs[1])
    first = constant_array(step.node.inputs[0])
    if values is not None and values.ndim == 2 and first is None:
        weight, encoding = weights_of(step)
        rank = len(step.shape)
        source = step.input(0, natural(rank)).tensor
        inputs = [source, _filters(step, weight.T, encoding), bias_of(step, source, encoding, weight.shape[1])]
        options = {**_options(source, encoding), **({"keepNumDims": True} if rank != 2 else {})}
        step.write("FULLY_CONNECTED", inputs, natural(rank), "FullyConnectedOptions", options)
        return
    if first is not None or values is not None or not step.values.integer_only:
        # Constants of a BATCH_MATMUL stay float, and XNNPACK has none of integers.
        step.use_floats()
    if step.activation != "NONE":
        _multiplied(step, fused=False)
    else:
        _multiplied(step)


def _options(source: Tensor, weight: Encoding | None) -> dict[str, Any]:
    """Return the option of a float layer with an integer weight: what it quantizes at run time has a zero point."""
    return {"asymmetricQuantizeInputs": True} if weight is not None and source.encoding is None else {}


def _multiplied(step: Step, *, fused: bool = True) -> None:
    rank = len(step.shape)
    operands, flags = zip(*(_factor(step, index) for index in range(2)), strict=True)
    options = {"adjX": flags[0], "adjY": flags[1]}
    if fused:
        step.write("BATCH_MATMUL", operands, natural(rank), "BatchMatMulOptions", options)
        return
    output = step.output(natural(rank))
    product = step.writer.like(f"{output.name}_product", output, output.shape)
    step.writer.emit("BATCH_MATMUL", operands, product, "BatchMatMulOptions", options)
    step.writer.emit(step.activation, [product], output)
    step.store(output, natural(rank))


def _factor(step: Step, index: int) -> tuple[Tensor, bool]:
    """Return a factor, and whether its last two axes lie the other way round."""
    versions = step.versions(step.node.inputs[index])
    rank = len(versions[0].order)
    swapped: Order = (*range(rank - 2), rank - 1, rank - 2)
    for entry in versions:
        if rank > 1 and entry.order in (natural(rank), swapped):
            return entry.tensor, entry.order != natural(rank)
    return step.writer.in_order(versions, natural(rank)).tensor, False


def _filters(step: Step, weight: Any, encoding: Encoding | None) -> Tensor:
    if encoding is not None and encoding.axis is not None:
        encoding = Encoding(encoding.scale, encoding.zero_point, encoding.qtype, 0)
    return step.writer.constant(name_of(step.node.inputs[1]), np.ascontiguousarray(weight), encoding)


def _with_added_bias(step: Step, source: Tensor, weight: Any, bias: Any) -> None:
    """Write a float product and an ADD: for a bias with a row of its own for each sample."""
    product = step.temporary(step.shape)
    zeros = step.writer.constant(f"{step.node.name}_zeros", np.zeros(len(weight), np.float32))
    step.writer.emit("FULLY_CONNECTED", [source, _filters(step, weight, None), zeros], product, "FullyConnectedOptions")
    step.write("ADD", [product, step.writer.constant(f"{step.node.name}_bias", bias)], natural(2), "AddOptions")


def _float_gemm(step: Step) -> None:
    """Write a Gemm of computed matrices as BATCH_MATMUL, MUL and ADD."""
    step.use_floats()
    factors = []
    for index, flag in ((0, "transA"), (1, "transB")):
        versions = step.versions(step.node.inputs[index])
        order: Order = (1, 0) if step.integer(flag, 0) else (0, 1)
        entry = Stored(step.writer.in_order(versions, order).tensor, order)
        factors.append(entry.tensor)
    result = step.temporary(step.shape)
    step.writer.emit("BATCH_MATMUL", factors, result, "BatchMatMulOptions")
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    if alpha != 1.0:
        scaled = step.temporary(step.shape)
        step.writer.emit("MUL", [result, step.writer.constant("alpha", np.float32(alpha))], scaled, "MulOptions")
        result = scaled
    addend = step.writer.constant("zero", np.zeros(1, np.float32))
    if len(step.node.inputs) > 2 and step.node.inputs[2] is not None:
        addend = step.operand(2, natural(2))
        if beta != 1.0:
            scaled = step.temporary(addend.shape)
            step.writer.emit("MUL", [addend, step.writer.constant("beta", np.float32(beta))], scaled, "MulOptions")
            addend = scaled
    step.write("ADD", [result, addend], natural(2), "AddOptions")
