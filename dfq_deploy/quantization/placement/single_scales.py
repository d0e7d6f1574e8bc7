"""Give the weights of dense layers one scale where channels cost time and gain little.

ONNX Runtime's QGemm computes the scale of each output channel anew in every run. For one row and 512 x 512 weights that
takes as long as a fourth of the product (``python -m benchmarks.dense_stacks``); over many rows, and beside
convolutions, it makes no difference. So do the kernels of products whose activations are quantized at run time: with
random weights, three layers of a text encoder took 35 of 203 microseconds for them at one token.
"""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import QuantType
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of, weighted_nodes
from dfq_deploy.quantization.dynamic import dynamic_form
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.quantization.tables import tied_weights
from dfq_deploy.quantization.weights import encoding_of_weight
from dfq_deploy.targets.target import Target

__all__ = ["with_single_scales"]

PRODUCTS = ("Gemm", "MatMul")

LEAST_SNR = 36.0
"""Signal to noise in dB that every channel keeps at one scale. Activations of 8 bits have about as much; a weight whose
channels differ by more than 1.5 times, or with values beyond 6 standard deviations, keeps a scale for each channel."""

LEAST_DYNAMIC_SNR = 24.0
"""The same where activations are quantized at run time, since tokens differ more than weights do. In three layers of
MiniLM 13 of 18 weights have one scale by it: 0.8 dB less of 25.6 at 64 tokens, 6 % less time at one."""

MOST_ROWS = 16
"""Rows beyond which the product takes so much longer than its scales that they do not matter."""


def with_single_scales(placement: Placement, model: ir.Model, target: Target) -> Placement:
    """``placement`` with one scale for weights of dense layers that lose little by it.

    These are the layers of a network all of whose layers are of operators that are slower with a scale for each channel
    (``target.slow_channels``), and those whose activations are quantized at run time. The ones that read few rows and
    keep :data:`LEAST_SNR` (:data:`LEAST_DYNAMIC_SNR`) in every channel get one scale. A weight that several nodes read
    or that is an embedding table too stays as it is, as do layers of other than 8 bits.

    Args:
        model: the prepared model, with its final weights.
    """
    layers, weights = weighted_nodes(model), dict(placement.weights)
    tied = tied_weights(model, placement.tables)
    slow = all(is_op(node, target.slow_channels) for node in layers)
    for node in layers:
        dynamic = dynamic_form(node) is not None and is_op(node, PRODUCTS)
        if not (slow or dynamic):
            continue
        name = name_of(node.inputs[1])
        if name in tied:
            continue
        constant, (qtype, axis) = constant_of(node.inputs[1]), weights.get(name, (target.weight, None))
        if constant is None or axis is None or len(node.inputs[1].uses()) != 1 or not _few_rows(node):  # type: ignore[union-attr]
            continue
        types = (qtype,) if dynamic else (qtype, placement.activations.get(name_of(node.inputs[0])))
        least = LEAST_DYNAMIC_SNR if dynamic else LEAST_SNR
        if _are_bytes(types) and _least_snr(constant.numpy(), qtype, axis) >= least:
            weights[name] = (qtype if dynamic else target.weight_per_tensor or qtype, None)
    return replace(placement, weights=weights)


def _few_rows(node: ir.Node) -> bool:
    """True where the rows are few, or a size of theirs is open: latency counts there."""
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    sizes = [] if shape is None else list(shape)[:-1]
    rows = [size for size in sizes if isinstance(size, int)]
    return not rows or len(rows) < len(sizes) or math.prod(rows) <= MOST_ROWS


def _are_bytes(types: Collection[QuantType | None]) -> bool:
    return all(qtype is not None and qtype.bits == 8 and not qtype.floating for qtype in types)


def _least_snr(weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]], qtype: QuantType, axis: int) -> float:
    """Signal to noise in dB of the noisiest channel at one scale; channels of zeros have no noise."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    noise = encoding_of_weight(weight, qtype, None).fake_quantize(rows) - rows
    signals, noises = (np.square(part, dtype=np.float64).sum(axis=1) for part in (rows, noise))
    used = noises > 0
    return float(10 * np.log10((signals[used] / noises[used]).min())) if used.any() else np.inf
