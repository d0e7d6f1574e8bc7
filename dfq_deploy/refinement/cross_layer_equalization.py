"""Cross-layer equalization: move scale between consecutive layers.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv 1906.04721), section
4.1: ``W1' = W1 / s``, ``b1' = b1 / s``, ``W2' = W2 * s`` does not change the function if the operators between both
layers are positively homogeneous, and ``s = sqrt(r1 / r2)`` makes both ranges of a channel equal (equation 11). It
matters for weights with one scale per tensor, and at few bits.

Two differences from the paper: (1) no channel's activation or bias grows beyond the largest of its tensor, so that
ranges do not widen (the paper absorbs high biases instead); (2) a Clip is kept (the paper replaces ReLU6 by ReLU): a
channel is scaled only as far as its largest value on the samples stays below the bound, before and after; a channel
that reaches the bound is not scaled.
"""

import logging
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.encodings import channel_shape
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op, operator_of
from dfq_deploy.graph.query import constant_of, weighted_nodes
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Pair", "equalize", "pairs_of"]

logger = logging.getLogger(__name__)

ROUNDS = 20
"""Largest number of sweeps over all pairs; the paper iterates until convergence."""

CONVERGED = 1e-3
"""Relative change of a scale below which a sweep is the last one."""

ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Identity", "Dropout"})

HOMOGENEOUS = ELEMENTWISE | {"MaxPool", "AveragePool", "GlobalAveragePool"}

MARGIN = 1.25
"""Factor by which a channel must stay below the bound of a Clip on the samples to count as never reaching it."""

DEAD = 1e-4
"""Channels whose weights are smaller than this fraction of the largest ones are not scaled."""

BATCH = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two weighted nodes with only channel-wise homogeneous operators between them, and no other consumers.

    Args:
        first, second: the nodes; ``second`` may be depthwise.
        bound: upper limit of a Clip between them; None without a Clip.
        signal: the tensor to measure: the input of the Clip, or the output of ``first``.
    """

    first: ir.Node
    second: ir.Node
    bound: float | None
    signal: ir.Value


def equalize(
    model: ir.Model, samples: Samples, *, device: str = "cpu", progress: Progress = SILENT
) -> dict[str, float]:
    """Equalize the weights of ``model``, in place; its outputs change only by float rounding.

    Args:
        model: with BatchNormalization folded, before ranges are measured.
        samples: used to determine which channels reach the bound of a Clip.

    Returns:
        for each first node of a pair, by name, the largest factor by which a channel was scaled.
    """
    pairs = pairs_of(model)
    peaks = _peaks(model, pairs, samples, device)
    total = {pair: np.ones(_channels(pair.first)) for pair in pairs}
    progress.start("equalization", ROUNDS)
    for _ in range(ROUNDS):
        change = 0.0
        for pair in pairs:
            scale = _scale(pair, peaks[pair], total[pair])
            _apply(pair, scale)
            total[pair] *= scale
            change = max(change, float(np.abs(np.log(scale)).max()))
        progress.advance(1, moved=change)
        if change < CONVERGED:
            break
    factors = {str(pair.first.name): float(np.exp(np.abs(np.log(scale)).max())) for pair, scale in total.items()}
    for name, factor in factors.items():
        logger.debug("equalization: %s scaled by up to %.3g", name, factor)
    return factors


def pairs_of(model: ir.Model) -> list[Pair]:
    """Return the pairs of convolutions (or Gemms) that can be equalized, in graph order."""
    pairs = []
    for node in weighted_nodes(model):
        if not is_op(node, ("Conv", "Gemm")) or node.graph is not model.graph or not _owns_parameters(node):
            continue
        pair = _pair_after(node)
        if pair is not None and operator_of(pair.second) == operator_of(node) and _owns_parameters(pair.second):
            pairs.append(pair)
    return pairs


def _pair_after(node: ir.Node) -> Pair | None:
    """Return ``node`` and the weighted node after it, if only homogeneous operators without branches lie between."""
    value, bound, signal = node.outputs[0], None, node.outputs[0]
    while True:
        uses = tuple(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0].idx != 0:
            return None
        reader = uses[0].node
        if is_op(reader, WEIGHTED_OPS):
            return Pair(node, reader, bound, signal)
        if is_op(reader, "Clip"):
            if bound is not None or _upper(reader) is None:
                return None
            bound, signal = _upper(reader), value
        elif not is_op(reader, HOMOGENEOUS) or (is_op(node, "Gemm") and not is_op(reader, ELEMENTWISE)):
            return None
        value = reader.outputs[0]


def _upper(clip: ir.Node) -> float | None:
    """Return the upper bound of a Clip whose lower bound is 0; None for any other."""
    bounds = [None if value is None else constant_of(value) for value in (*clip.inputs[1:3], None, None)][:2]
    if any(bound is None for bound in bounds):
        return None
    low, high = (float(bound.numpy()) for bound in bounds if bound is not None)
    return high if low == 0 < high else None


def _owns_parameters(node: ir.Node) -> bool:
    """Return True if weight and bias are constants that no other node reads."""
    values = [value for value in node.inputs[1:3] if value is not None]
    unscaled = not is_op(node, "Gemm") or (
        node.attributes.get_float("alpha", 1.0) == 1 and node.attributes.get_float("beta", 1.0) == 1
    )
    return unscaled and all(constant_of(value) is not None and len(tuple(value.uses())) == 1 for value in values)


def _weight_by_output(node: ir.Node) -> Floats:
    """Return the weight as (output channels, input channels of a group, ...)."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    weight: Floats = tensor.numpy().astype(np.float64)
    return weight.T if _is_transposed(node) else weight


def _is_transposed(node: ir.Node) -> bool:
    """Return True for a Gemm whose weight is (inputs, outputs)."""
    return is_op(node, "Gemm") and not node.attributes.get_int("transB", 0)


def _channels(node: ir.Node) -> int:
    return len(_weight_by_output(node))


def _weight_by_input(node: ir.Node) -> Floats:
    """Return the weight as (groups, outputs of a group, inputs of a group, rest)."""
    rows, groups = _weight_by_output(node), node.attributes.get_int("group", 1)
    return rows.reshape(groups, len(rows) // groups, rows.shape[1], -1)


def _scale(pair: Pair, peak: Floats, total: Floats) -> Floats:
    """Compute the factor s of each channel: the first layer is divided by it, the second multiplied."""
    first = np.abs(_weight_by_output(pair.first)).reshape(len(total), -1).max(axis=1)
    second = np.abs(_weight_by_input(pair.second)).max(axis=(1, 3)).reshape(-1)
    active = (first > DEAD * first.max()) & (second > DEAD * second.max())
    scale = np.ones_like(first)
    scale[active] = np.sqrt(first[active] / second[active])
    scaled_peak = np.maximum(peak, 0) / total
    ceiling = np.maximum(peak, 0).max()
    if pair.bound is not None:
        ceiling = min(ceiling, pair.bound / MARGIN)
        scale[scaled_peak >= ceiling] = 1
    lower_limit = np.maximum(
        scaled_peak / max(ceiling, 1e-12), _biases(pair.first) / max(_biases(pair.first).max(), 1e-12)
    )
    limited: Floats = np.maximum(scale, np.minimum(lower_limit, 1))
    return limited


def _biases(node: ir.Node) -> Floats:
    """Return the magnitude of each channel's bias."""
    tensor = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros(_channels(node)) if tensor is None else np.abs(tensor.numpy().astype(np.float64))


def _apply(pair: Pair, scale: Floats) -> None:
    first = _weight_by_output(pair.first)
    _store(pair.first, 1, first / scale.reshape(channel_shape(first.ndim, 0)))
    bias = constant_of(pair.first.inputs[2]) if len(pair.first.inputs) > 2 else None
    if bias is not None:
        _store(pair.first, 2, bias.numpy().astype(np.float64) / scale)
    second = _weight_by_input(pair.second)
    grouped = second * scale.reshape(second.shape[0], 1, second.shape[2], 1)
    _store(pair.second, 1, grouped.reshape(_weight_by_output(pair.second).shape))


def _store(node: ir.Node, index: int, array: Floats) -> None:
    value = node.inputs[index]
    old = constant_of(value)
    assert value is not None
    assert old is not None
    stored = np.ascontiguousarray((array.T if index == 1 and _is_transposed(node) else array).astype(old.numpy().dtype))
    value.const_value = ir.tensor(stored, name=value.name)


@torch.no_grad()
def _peaks(model: ir.Model, pairs: list[Pair], samples: Samples, device: str) -> dict[Pair, Floats]:
    """Measure the largest value of each channel between the nodes of each pair, over all samples."""
    names = {pair: str(pair.signal.name) for pair in pairs}
    twin = teacher_of(model, samples.extra, device)
    peaks: dict[Pair, Floats] = {}
    for images in torch.split(twin_images(model, samples), BATCH):
        tensors = twin.run({twin.input_names[0]: images.to(device)}, keep=tuple(names.values()))
        for pair, name in names.items():
            peak = _largest(tensors[name], 1 if is_op(pair.first, "Conv") else -1)
            peaks[pair] = np.maximum(peaks[pair], peak) if pair in peaks else peak
    return peaks


def _largest(values: Tensor, channel: int) -> Floats:
    axes = [axis for axis in range(values.ndim) if axis != channel % values.ndim]
    largest: Floats = values.amax(axes).double().cpu().numpy()
    return largest
