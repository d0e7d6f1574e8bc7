"""Tell whether integer sums saturate on this processor.

On x86 processors without VNNI, the kernels of ONNX Runtime and of OpenVINO multiply u8 activations by s8 weights, and
add the first and the second product, the third and the fourth and so on in 16 bits. Such a sum saturates if the two
weights have the same sign and are large. Kernels of depthwise convolutions add single products.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import google.protobuf.message
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QUANTIZE_OPS, is_integer_op, is_op
from dfq_deploy.graph.query import weight_axis
from dfq_deploy.runtime.kernel_count import KernelCount

__all__ = ["LARGEST_SUM", "lacks_vnni", "neighbor_sums", "saturates", "saturation_warnings"]

EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions that add products of u8 and s8 in 32 bits; older ones add two of them in 16 bits, which saturate."""

LARGEST_SUM = 128
"""Largest sum of two weights of one sign whose products with activations do not saturate: 255 * 128 < 2^15."""

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})

ROWS = frozenset({"Gemm", "com.microsoft::QGemm"})
"""Products whose weight is (K, N), or (N, K) if ``transB`` is set."""

STACKS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul"}) | {
    f"com.microsoft::{name}"
    for name in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "QAttention")
}
"""Products whose weight is (..., K, N)."""

MOVES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""What a file may have between a weight and the product; the order of the weights is not followed through it."""

SENTENCE = (
    "this processor has no VNNI: there ONNX Runtime's integer sums saturate by default, and those of this file may. "
    'The figures here are of sessions with options.add_session_config_entry("session.x64quantprecision", "1"), which '
    "avoids it, but not for weights that nodes share or that lie in a Loop, nor for s8 activations. Set that in your "
    "program for such processors, or calibrate for --target cpu, whose weights need no option"
)


@cache
def lacks_vnni() -> bool:
    """True on x86 processors without VNNI: those before about 2019, and virtual machines that hide it."""
    import torch

    found = torch.cpu.get_capabilities()
    return str(found.get("architecture")) in ("x86", "x86_64") and not any(found.get(name) for name in EXACT)


def neighbor_sums(node: ir.Node, weight: NDArray[Any]) -> NDArray[Any] | None:
    """Largest sum of two weights of one sign whose products the kernel of ``node`` adds in 16 bits, per output channel.

    Args:
        node: a product or a recurrent layer, of floats with Q and DQ around it or of integers.
        weight: its constant, float or integer.

    Returns:
        magnitudes, (channels,); None where the kernel adds no two products in 16 bits.
    """
    # int8 would overflow.
    orders = [_sums(rows.astype(np.result_type(rows.dtype, np.int16))) for rows in _orders(node, weight) if rows.size]
    if not orders:
        return None
    sums = np.maximum.reduce(orders)
    largest: NDArray[Any] = sums.reshape(-1, sums.shape[-1]).max(0)
    return largest


def _sums(rows: NDArray[Any]) -> NDArray[Any]:
    """Largest sum of two neighbors of one sign in each row, (..., channels, K) to (..., channels)."""
    pairs = _even(rows).reshape(*rows.shape[:-1], -1, 2)
    sums: NDArray[Any] = np.maximum(np.maximum(pairs, 0).sum(-1), np.maximum(-pairs, 0).sum(-1)).max(-1)
    return sums


def _even(rows: NDArray[Any]) -> NDArray[Any]:
    """An even number of columns, with one of zeros where needed."""
    return np.concatenate([rows, np.zeros_like(rows[..., :1])], axis=-1) if rows.shape[-1] % 2 else rows


def _orders(node: ir.Node, weight: NDArray[Any]) -> list[NDArray[Any]]:
    """The weights of each output channel in the orders of kernels, (..., channels, K)."""
    if weight.ndim < 2:
        return []
    if is_op(node, CONVOLUTIONS):
        if weight.shape[1] == 1 and node.attributes.get_int("group", 1) == len(weight):
            return []  # depthwise
        taps = np.moveaxis(weight, 1, -1)
        # ONNX Runtime's kernels go through all channels of all positions, OpenVINO's start anew at each position.
        return [order.reshape(len(weight), -1) for order in (taps, _even(taps))]
    if is_op(node, ROWS):
        return [weight if weight_axis(node) == 0 else weight.T]
    if is_op(node, STACKS):
        return [np.swapaxes(weight, -1, -2)]
    return [weight] if is_op(node, "LSTM") else []


def saturates(model: ir.Model) -> bool:
    """True where sums of integer products of the model may saturate on this processor by default.

    They do if activations are integers, and two neighbors among the weights in int8 have a sum beyond
    :data:`LARGEST_SUM` (:func:`neighbor_sums`).
    """
    if not lacks_vnni() or not any(map(_makes_integers, model.graph.all_nodes())):
        return False
    return any(_saturates(value, array) for value, array in _narrow_constants(model))


def _saturates(value: ir.Value, array: NDArray[np.int8]) -> bool:
    """True where a product that reads these integers, directly or dequantized, may saturate."""
    for use in value.uses():
        if is_op(use.node, DEQUANTIZE_OPS):
            if use.idx == 0 and _saturates(use.node.outputs[0], array):
                return True
        elif is_op(use.node, ("Identity", "Transpose")):
            order = use.node.attributes.get_ints("perm", ()) or range(array.ndim - 1, -1, -1)
            moved = array.transpose(list(order)) if is_op(use.node, "Transpose") else array
            if _saturates(use.node.outputs[0], moved):
                return True
        elif is_op(use.node, MOVES):
            if use.idx == 0 and 2 * _largest(array) > LARGEST_SUM:
                return True
        elif (sums := neighbor_sums(use.node, array)) is not None and sums.max() > LARGEST_SUM:
            return True
    return False


def _largest(array: NDArray[np.int8]) -> int:
    return max(-int(array.min()), int(array.max()))


def saturation_warnings(path: Path, count: KernelCount | None) -> tuple[str, ...]:
    """What to say on this processor of a file with these kernels: a sentence, or nothing."""
    if count is None or count.reason or count.listed or not count.integer or not lacks_vnni():
        return ()
    try:
        model = ir.load(path)
    except google.protobuf.message.DecodeError:  # an .ort file: its weights are not read here
        return (SENTENCE,)
    return (SENTENCE,) if saturates(model) else ()


def _makes_integers(node: ir.Node) -> bool:
    """True for what quantizes activations, or multiplies quantized ones."""
    return is_integer_op(node) or is_op(node, QUANTIZE_OPS)


def _narrow_constants(model: ir.Model) -> Iterator[tuple[ir.Value, NDArray[np.int8]]]:
    """All constants in int8 of the model that may saturate, those of bodies of Loop, Scan and If too."""
    for value, tensor in _constants(model):
        if tensor.dtype == ir.DataType.INT8 and tensor.size:
            array = tensor.numpy()
            if 2 * _largest(array) > LARGEST_SUM:
                yield value, array


def _constants(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
    for node in model.graph.all_nodes():
        if node.op_type == "Constant" and "value" in node.attributes:
            yield node.outputs[0], node.attributes["value"].as_tensor()
