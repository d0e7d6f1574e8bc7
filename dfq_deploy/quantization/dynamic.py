"""Dynamic quantization: the activations of some layers are quantized at run time.

That needs no samples, and is more accurate than one fixed range wherever ranges differ between inputs (text). ONNX
Runtime has kernels for MatMul (DynamicQuantizeMatMul, MatMulIntegerToFloat) and LSTM (DynamicQuantizeLSTM).
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import QuantType
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.targets.target import Target

__all__ = [
    "FEWEST_WEIGHTS",
    "ROW_GAIN",
    "Activations",
    "Form",
    "dynamic_form",
    "dynamic_weights",
    "is_worth_it",
    "mark_dynamic",
    "step_squares",
]

Activations: TypeAlias = Literal["auto", "static", "dynamic", "float"]
"""How activations are quantized.

``static``: with ranges that are measured before. ``dynamic``: at run time, for the layers of :func:`is_worth_it`.
``float``: not at all, and of the weights only large matrices, in blocks
(:mod:`dfq_deploy.quantization.weight_blocks`). ``auto``: static, and dynamic where nothing can be measured, inside If,
Loop and Scan and for LSTM.
"""

Form: TypeAlias = Literal["tensor", "row"]
"""One scale for the whole activation, or one for each of its rows (tokens)."""

FORM = "dfq_deploy.dynamic"
"""Key in the ``meta`` of a node; it is not written to a file."""

FEWEST_WEIGHTS = 2**16
"""Smallest weight for which integer products save more time than the quantization of one row costs.

Measured for 1 to 64 rows on one thread (benchmarks/kernel_forms.py): a weight of 128 by 128 takes 1.1 to 0.6 times as
long as float, one of 256 by 256 0.98 to 0.4 times.
"""

FEWEST_STATES = 64
"""Smallest hidden size of an LSTM that gains (benchmarks/kernel_forms.py).

16 states take 1.2 times as long as float, 64 take 1.03 (one step) to 0.8 times (sixteen), 512 take 0.4 to 0.26 times.
"""

ROW_GAIN = 8.0
"""Decibels by which the noise of an activation has to fall for a scale for each row, which costs 8 to 25 % of the time
of its layer. Three layers of MiniLM have it in three products by it, keep 21.8 dB at 64 tokens and take as long as with
ONNX Runtime's ``quantize_dynamic``; with 6.5, in five, they keep 24.8 dB and take 4 % longer at one token."""


def mark_dynamic(node: ir.Node, form: Form | None = "tensor") -> None:
    """Mark ``node`` so that its activation is quantized at run time; None removes the mark."""
    if form is None:
        node.meta.pop(FORM, None)
    else:
        node.meta[FORM] = form


def dynamic_form(node: ir.Node) -> Form | None:
    """The form that :func:`mark_dynamic` set; None where activations are quantized statically, or not at all."""
    form: Form | None = node.meta.get(FORM)
    return form


def is_worth_it(node: ir.Node, target: Target) -> bool:
    """True where ``target`` has a dynamic kernel for ``node`` that is faster than the float one."""
    if not is_op(node, target.dynamic_ops):
        return False
    if is_op(node, "LSTM"):
        return _is_plain_lstm(node)
    weight = _weight(node, 1)
    plain = not is_op(node, "Gemm") or not any(
        node.attributes.get_float(factor, 1.0) != 1.0 or node.attributes.get_int("transA", 0)
        for factor in ("alpha", "beta")
    )
    return weight is not None and len(weight.shape) == 2 and weight.size >= FEWEST_WEIGHTS and plain


def _weight(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    """The float constant that ``node`` reads at ``index``."""
    weight = constant_of(node.inputs[index]) if len(node.inputs) > index else None
    return weight if weight is not None and weight.dtype == ir.DataType.FLOAT else None


def _is_plain_lstm(node: ir.Node) -> bool:
    """An LSTM of constant weights, in the layout of ONNX Runtime's quantized kernel."""
    weights = [_weight(node, index) for index in (1, 2)]
    large = node.attributes.get_int("hidden_size", 0) >= FEWEST_STATES
    return large and None not in weights and node.attributes.get_int("layout", 0) == 0


def dynamic_weights(nodes: Iterable[ir.Node], target: Target) -> dict[str, tuple[QuantType, int | None]]:
    """Name of each weight of the marked ones among ``nodes`` -> its type and the axis of its output channels."""
    found: dict[str, tuple[QuantType, int | None]] = {}
    for node in nodes:
        if dynamic_form(node) is None:
            continue
        # An LSTM's weights are (directions, 4 * hidden, inputs).
        pairs = [(1, 1), (2, 1)] if is_op(node, "LSTM") else [(1, weight_axis(node))]
        for index, axis in pairs:
            name = name_of(node.inputs[index])
            same = found.get(name, (None, axis))[1] == axis
            found[name] = (target.weight, axis if same else None)
    return found


def step_squares(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean square of the step, up to a constant: with one scale for all values, and with one for each row.

    Args:
        values: the activations of one sample, (..., K); the rows lie along the last axis.
    """
    rows = values.reshape(-1, values.shape[-1] if values.ndim else 1).astype(np.float64)
    largest = np.maximum(np.abs(rows).max(1, keepdims=True), np.finfo(np.float32).tiny)
    return np.array([np.square(_span(rows)), np.mean(np.square(largest * _span(rows / largest)))])


def _span(values: NDArray[np.float64]) -> float:
    """From the least to the largest value, zero included, as DynamicQuantizeLinear takes it."""
    return float(max(values.max(), 0.0) - min(values.min(), 0.0))
