"""Cross-layer equalization: neighboring layers trade scale.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv 1906.04721), section
4.1: ``W1' = W1 / s``, ``b1' = b1 / s``, ``W2' = W2 * s`` leaves the function as it is where what stands between is
positively homogeneous, and ``s = sqrt(r1 / r2)`` makes both ranges of a channel equal (equation 11). It matters where
weights have one scale per tensor, and at few bits.

Two things are kept that the paper gives up and mends afterwards. No channel's activation or bias grows beyond the
largest of its tensor, so that ranges do not widen (the paper absorbs high biases instead). And a Clip stays (the paper
replaces ReLU6 by ReLU): a channel is scaled only as far as its largest value on the samples keeps below the bound,
before and after; one that reaches it is left alone.
"""

import logging
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.graph.query import constant_of, weighted_nodes
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Pair", "equalize", "pairs_of"]

logger = logging.getLogger(__name__)

ROUNDS = 20
"""Sweeps over all pairs at most; the paper goes on until nothing changes."""

SETTLED = 1e-3
"""Relative change of a scale below which a sweep is the last one."""

ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Identity", "Dropout"})

HOMOGENEOUS = ELEMENTWISE | {"MaxPool", "AveragePool", "GlobalAveragePool"}

MARGIN = 1.25
"""How far below the bound of a Clip a channel must stay on the samples to count as one that never reaches it."""

DEAD = 1e-4
"""A channel whose weights are smaller than that part of the largest ones computes next to nothing: it is left alone."""

BATCH = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two weighted nodes with nothing but channel-wise homogeneous operators between them, and no other reader.

    Args:
        first, second: the nodes; ``second`` may be depthwise.
        bound: upper limit of a Clip between them; None where there is none.
        signal: what is measured: the tensor that the Clip reads, or that ``first`` writes.
    """

    first: ir.Node
    second: ir.Node
    bound: float | None
    signal: ir.Value


def equalize(
    model: ir.Model, samples: Samples, *, device: str = "cpu", progress: Progress = SILENT
) -> dict[str, float]:
    """Equalize the weights of ``model``, in place; what it computes stays the same but for rounding.

    Args:
        model: BatchNormalization folded, before ranges are measured.
        samples: what tells which channels reach the bound of a Clip.

    Returns:
        for each first node of a pair, by name, the largest factor by which a channel was scaled.
    """
    pairs = pairs_of(model)
    peaks = _peaks(model, pairs, samples, device)
    total = {pair: np.ones(_channels(pair.first)) for pair in pairs}
    progress.start("equalization", ROUNDS)
    for _ in range(ROUNDS):
        moved = 0.0
        for pair in pairs:
            scale = _scale(pair, peaks[pair], total[pair])
            _apply(pair, scale)
            total[pair] *= scale
            moved = max(moved, float(np.abs(np.log(scale)).max()))
        progress.advance(1, moved=moved)
        if moved < SETTLED:
            break
    factors = {str(pair.first.name): float(np.exp(np.abs(np.log(scale)).max())) for pair, scale in total.items()}
    for name, factor in factors.items():
        logger.debug("equalization: %s scaled by up to %.3g", name, factor)
    return factors


def pairs_of(model: ir.Model) -> list[Pair]:
    """The pairs of convolutions (or Gemms) that can trade scale, in graph order."""
    pairs = []
    for node in weighted_nodes(model):
        if node.op_type not in ("Conv", "Gemm") or node.graph is not model.graph or not _is_its_own(node):
            continue
        found = _partner(node)
        if found is not None and found.second.op_type == node.op_type and _is_its_own(found.second):
            pairs.append(found)
    return pairs


def _partner(node: ir.Node) -> Pair | None:
    """The node with the weighted one behind it, past homogeneous operators that nothing else reads."""
    value, bound, signal = node.outputs[0], None, node.outputs[0]
    while True:
        uses = tuple(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0].idx != 0:
            return None
        reader = uses[0].node
        if reader.op_type in WEIGHTED_OPS:
            return Pair(node, reader, bound, signal)
        if reader.op_type == "Clip":
            if bound is not None or _upper(reader) is None:
                return None
            bound, signal = _upper(reader), value
        elif reader.op_type not in HOMOGENEOUS or (node.op_type == "Gemm" and reader.op_type not in ELEMENTWISE):
            return None
        value = reader.outputs[0]


def _upper(clip: ir.Node) -> float | None:
    """The upper bound of a Clip from 0; None for any other."""
    ends = [None if value is None else constant_of(value) for value in (*clip.inputs[1:3], None, None)][:2]
    if any(end is None for end in ends):
        return None
    low, high = (float(end.numpy()) for end in ends if end is not None)
    return high if low == 0 < high else None


def _is_its_own(node: ir.Node) -> bool:
    """True if weight and bias are constants that no other node reads."""
    values = [value for value in node.inputs[1:3] if value is not None]
    plain = node.op_type != "Gemm" or (
        node.attributes.get_float("alpha", 1.0) == 1 and node.attributes.get_float("beta", 1.0) == 1
    )
    return plain and all(constant_of(value) is not None and len(tuple(value.uses())) == 1 for value in values)


def _rows(node: ir.Node) -> Floats:
    """The weight as (output channels, input channels of a group, ...)."""
    tensor = constant_of(node.inputs[1])
    assert tensor is not None
    weight: Floats = tensor.numpy().astype(np.float64)
    return weight.T if _is_turned(node) else weight


def _is_turned(node: ir.Node) -> bool:
    """True for a Gemm that holds its weight as (inputs, outputs)."""
    return node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)


def _channels(node: ir.Node) -> int:
    return len(_rows(node))


def _by_input(node: ir.Node) -> Floats:
    """The weight as (groups, outputs of a group, inputs of a group, rest)."""
    rows, groups = _rows(node), node.attributes.get_int("group", 1)
    return rows.reshape(groups, len(rows) // groups, rows.shape[1], -1)


def _scale(pair: Pair, peak: Floats, so_far: Floats) -> Floats:
    """The factor s of each channel: the first layer is divided by it, the second multiplied."""
    first = np.abs(_rows(pair.first)).reshape(len(so_far), -1).max(axis=1)
    second = np.abs(_by_input(pair.second)).max(axis=(1, 3)).reshape(-1)
    alive = (first > DEAD * first.max()) & (second > DEAD * second.max())
    scale = np.ones_like(first)
    scale[alive] = np.sqrt(first[alive] / second[alive])
    reach = np.maximum(peak, 0) / so_far
    ceiling = np.maximum(peak, 0).max()
    if pair.bound is not None:
        ceiling = min(ceiling, pair.bound / MARGIN)
        scale[reach >= ceiling] = 1
    least = np.maximum(reach / max(ceiling, 1e-12), _biases(pair.first) / max(_biases(pair.first).max(), 1e-12))
    limited: Floats = np.maximum(scale, np.minimum(least, 1))
    return limited


def _biases(node: ir.Node) -> Floats:
    """Magnitude of each channel's bias."""
    tensor = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros(_channels(node)) if tensor is None else np.abs(tensor.numpy().astype(np.float64))


def _apply(pair: Pair, scale: Floats) -> None:
    first = _rows(pair.first)
    _store(pair.first, 1, first / scale.reshape(-1, *[1] * (first.ndim - 1)))
    bias = constant_of(pair.first.inputs[2]) if len(pair.first.inputs) > 2 else None
    if bias is not None:
        _store(pair.first, 2, bias.numpy().astype(np.float64) / scale)
    second = _by_input(pair.second)
    grouped = second * scale.reshape(second.shape[0], 1, second.shape[2], 1)
    _store(pair.second, 1, grouped.reshape(_rows(pair.second).shape))


def _store(node: ir.Node, index: int, array: Floats) -> None:
    value = node.inputs[index]
    old = constant_of(value)
    assert value is not None
    assert old is not None
    kept = np.ascontiguousarray((array.T if index == 1 and _is_turned(node) else array).astype(old.numpy().dtype))
    value.const_value = ir.tensor(kept, name=value.name)


@torch.no_grad()
def _peaks(model: ir.Model, pairs: list[Pair], samples: Samples, device: str) -> dict[Pair, Floats]:
    """The largest value of each channel between each pair, over all samples."""
    names = {pair: str(pair.signal.name) for pair in pairs}
    twin = teacher_of(model, samples.extra, device)
    peaks: dict[Pair, Floats] = {}
    for images in torch.split(twin_images(model, samples), BATCH):
        kept = twin.run({twin.input_names[0]: images.to(device)}, keep=tuple(names.values()))
        for pair, name in names.items():
            peak = _largest(kept[name], pair.first.op_type)
            peaks[pair] = np.maximum(peaks[pair], peak) if pair in peaks else peak
    return peaks


def _largest(values: Tensor, op_type: str) -> Floats:
    channel = 1 if op_type == "Conv" else values.ndim - 1
    largest: Floats = values.amax([axis for axis in range(values.ndim) if axis != channel]).double().cpu().numpy()
    return largest
