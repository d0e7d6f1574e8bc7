"""Compare each scale of a quantized file with the scale that the float model's values need.

Noise accumulates along a graph: it shows that there is a fault before a tensor, not where. The noise that a tensor's
own Q and DQ add to its float values, relative to the noise of a good scale of the same bits, locates the fault.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.equalized_weights import Equalized, FloatWeight, deviation
from dfq_deploy.evaluation.metrics import finite, signal_to_noise
from dfq_deploy.evaluation.qdq_pairs import ActivationPair, WeightPair, activation_pairs, weight_pairs
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.placement.limits import UNBOUNDED
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight, raise_scale_for_sums
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums
from dfq_deploy.samples.samples import Samples

__all__ = ["FAULT", "ScaleCheck", "scale_checks"]

FAULT = 15.0
"""dB of excess from which a scale counts as wrong: a range six times as wide as needed (8 times: 18 dB)."""

RIGHT_SIZE = 0.5
"""Powers of two by which a scale may be off for its size not to be the fault."""

EQUALIZED = 0.05
"""Median deviation of a channel's factor from which a weight counts as equalized; 4 bits cause 0.004 at most."""

HARMLESS = 60.0
"""dB of signal to noise above which no scale counts as wrong, even if a better one exists."""

UNIT_RANGE = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
"""Operators that write 0 to 1: a scale for all of that is not wrong, however small the values of a few samples are."""

ALIVE = 1e-3
"""Power of a weight's channel, relative to the mean of all, below which its scale does not matter."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ScaleCheck:
    """The check of one quantized tensor of the file.

    Args:
        tensor: name of an activation in the float model, or of a weight in the file.
        kind: activation or weight.
        node: the weighted node that reads a weight; empty for an activation.
        bits: of its integers.
        excess: how much more noise its Q and DQ add than a good scale of the same bits, in dB.
        snr: signal to noise in dB of its Q and DQ on float values.
        factor: how many times too large the scale is; below 1 if it is too small.
        matched: whether the values are those of the float model; else they are the file's own, with all errors before
            them.
    """

    tensor: str
    kind: Literal["activation", "weight"]
    node: str
    bits: int
    excess: float
    snr: float
    factor: float
    matched: bool = True

    @property
    def is_fault(self) -> bool:
        """True if another scale would remove most of the noise."""
        return self.excess >= FAULT and self.snr < HARMLESS

    def __str__(self) -> str:
        """One sentence."""
        size = f"{self.factor:.2g} times too large" if self.factor >= 1 else f"{1 / self.factor:.2g} times too small"
        where = f" of {self.node}" if self.node else ""
        if abs(math.log2(max(self.factor, 1e-30))) < RIGHT_SIZE:
            cause = "other values than float's" if self.kind == "weight" else "a zero point that does not fit"
            return (
                f"{self.kind} '{self.tensor}'{where} has {cause}, beside a scale of the right size: "
                f"{self.snr:.1f} dB signal to noise, where {self.bits} bits give {self.snr + self.excess:.1f}"
            )
        return (
            f"the scale of {self.kind} '{self.tensor}'{where} is about {size}: its own noise is {self.excess:.0f} dB "
            f"above what {self.bits} bits give ({self.snr:.1f} dB signal to noise)"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite figure is null."""
        return {
            "tensor": self.tensor,
            "kind": self.kind,
            "node": self.node,
            "bits": self.bits,
            "excess_db": finite(self.excess),
            "snr_db": finite(self.snr),
            "factor": finite(self.factor),
            "matched": self.matched,
            "fault": self.is_fault,
        }


def scale_checks(reference: ir.Model, quantized: ir.Model, samples: Samples) -> tuple[ScaleCheck, ...]:
    """Check every quantized tensor whose scale can be checked, the worst first.

    Equalized weights and the activations that they write are compared with float ones at the scale of their channels
    (:mod:`dfq_deploy.evaluation.equalized_weights`). The wrong scale of an equalized layer without a bias looks like
    equalization: the tensor after it is reported instead.

    Args:
        reference: the float model, as :func:`dfq_deploy.graph.loading.load` reads it.
        quantized: a QDQ file of any tool, as :func:`dfq_deploy.graph.loading.load_quantized` reads it.
        samples: a few are enough.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    folded = reference.clone()
    fold_batch_normalization(folded)
    weights, equalized = _weights((folded, reference), quantized)
    activations = _activations(reference, quantized, samples, equalized.tensors(folded))
    return tuple(sorted((*weights, *activations), key=lambda check: (not check.is_fault, -check.excess, check.tensor)))


def _activations(
    reference: ir.Model, quantized: ir.Model, samples: Samples, equalized: Mapping[str, Floats]
) -> list[ScaleCheck]:
    """Every activation; ``equalized``: tensor -> the factor of each of its channels."""
    pairs = activation_pairs(quantized)
    computed = [*reference.graph.inputs, *(value for node in reference.graph for value in node.outputs)]
    known = {name_of(value): value for value in computed}
    folded = _folded_into(reference, quantized)
    found = tensor_values(reference, [folded.get(pair.tensor, pair.tensor) for pair in pairs], samples)
    values = {pair.tensor: found[name] for pair in pairs if (name := folded.get(pair.tensor, pair.tensor)) in found}
    values = {name: _multiplied(rows, equalized.get(name)) for name, rows in values.items()}
    known |= {name: known[other] for name, other in folded.items()}
    limits = saturations([known[name] for name in values])
    own = {pair.tensor: pair.source for pair in pairs if pair.tensor not in values}
    found = tensor_values(quantized, list(own.values()), samples)
    rows: dict[str, Floats] = {
        name: np.clip(array, *limits.get(name_of(known[name]), UNBOUNDED)) for name, array in values.items()
    }
    rows |= {name: found[source] for name, source in own.items() if source in found}
    ends = _shared_ends(pairs, rows)
    for name in ends:
        producer = known[name].producer() if name in known else None
        if producer is not None and is_op(producer, UNIT_RANGE):
            ends[name] = min(ends[name][0], 0.0), max(ends[name][1], 1.0)
    return [
        _activation(pair, rows[pair.tensor], ends[pair.tensor], matched=pair.tensor in values)
        for pair in pairs
        if pair.tensor in rows and rows[pair.tensor].any()
    ]


def _folded_into(reference: ir.Model, quantized: ir.Model) -> dict[str, str]:
    """Output of a layer -> output of the BatchNormalization behind it, where the quantized file has that folded.

    Exporters that fold it keep the layer's own name for what the two compute together.
    """
    there = {name_of(value) for node in quantized.graph for value in node.outputs}
    found = {}
    for node in reference.graph:
        before = node.inputs[0] if is_op(node, "BatchNormalization") else None
        layer = None if before is None or len(before.uses()) > 1 else before.producer()
        if layer is not None and is_op(layer, WEIGHTED_OPS) and name_of(node.outputs[0]) not in there:
            found[name_of(before)] = name_of(node.outputs[0])
    return found


def _multiplied(rows: Floats, factors: Floats | None) -> Floats:
    """Rows (C, n) times the factor of each channel."""
    return rows if factors is None or len(factors) != len(rows) else (rows * factors[:, None]).astype(np.float32)


def _shared_ends(pairs: Sequence[ActivationPair], rows: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
    """The range that each tensor's scale must cover: that of all tensors with the same scale."""
    groups: dict[tuple[float, int], list[str]] = {}
    for pair in pairs:
        if pair.tensor in rows:
            groups.setdefault((float(pair.written.scale), int(pair.written.zero_point)), []).append(pair.tensor)
    found = {}
    for names in groups.values():
        ends = min(float(rows[name].min()) for name in names), max(float(rows[name].max()) for name in names)
        found.update(dict.fromkeys(names, ends))
    return found


def _activation(pair: ActivationPair, rows: Floats, ends: tuple[float, float], *, matched: bool) -> ScaleCheck:
    written, exact = pair.written, rows.astype(np.float32)
    needed = Encoding.of_bounds(np.asarray(ends[0]), np.asarray(ends[1]), written.qtype, None)
    noise, best = _power(pair.restored(exact) - exact), _power(needed.fake_quantize(exact) - exact)
    drift = float(pair.read.scale) / float(written.scale)
    factor = drift if abs(math.log2(drift)) > 0.5 else float(written.scale) / float(needed.scale)
    excess, snr = _excess(noise, best, exact), signal_to_noise(_power(exact), noise)
    return ScaleCheck(pair.tensor, "activation", "", written.qtype.bits, excess, snr, factor, matched)


def _weights(floats: Sequence[ir.Model], quantized: ir.Model) -> tuple[list[ScaleCheck], Equalized]:
    """The weights' checks, and the factors of the channels that were equalized."""
    candidates = [_by_node(model) for model in floats]
    checks: list[ScaleCheck] = []
    equalized = Equalized()
    pairs = weight_pairs(quantized)
    narrow = _keeps_sums(pairs)
    for pair in pairs:
        exact = _closest(pair, candidates) if pair.exact is None else FloatWeight(pair.exact)
        if exact is not None and exact.values.any():
            checks.append(_weight(pair, equalized.weight(exact, pair), narrow=narrow))
    return checks, equalized


def _keeps_sums(pairs: Sequence[WeightPair]) -> bool:
    """True where most weights are small enough that no sum of two products saturates on any x86 processor."""
    sums = [neighbor_sums(pair.node, pair.encoding.quantize(pair.values)) for pair in pairs]
    kept = [bool(found.max() <= LARGEST_SUM) for found in sums if found is not None]
    return 2 * sum(kept) > len(kept)


def _by_node(model: ir.Model) -> dict[str, ir.Node]:
    """Nodes by their own name and by what they write."""
    named = {str(node.name): node for node in model.graph if node.name}
    return {**{name_of(node.outputs[0]): node for node in model.graph}, **named}


def _closest(pair: WeightPair, candidates: Sequence[Mapping[str, ir.Node]]) -> FloatWeight | None:
    """The float weight of the same node, with or without BatchNormalization folded, whichever is closer."""
    found: list[FloatWeight] = []
    for nodes in candidates:
        node = nodes.get(str(pair.node.name)) or nodes.get(name_of(pair.node.outputs[0]))
        value = None if node is None or len(node.inputs) <= pair.place else node.inputs[pair.place]
        constant = constant_of(value)
        if constant is not None and tuple(constant.numpy().shape) == pair.values.shape:
            found.append(FloatWeight(constant.numpy().astype(np.float32), node))
    closest = min(found, key=lambda entry: deviation(entry.values, pair), default=None)
    # Equalized channels are like none of both: BatchNormalization is folded before they are scaled.
    return found[0] if closest is not None and deviation(closest.values, pair) > EQUALIZED else closest


def _weight(pair: WeightPair, exact: Floats, *, narrow: bool) -> ScaleCheck:
    qtype, axis = pair.encoding.qtype, pair.encoding.axis
    good = encoding_of_weight(exact, qtype, axis, best_bounds)
    if narrow:
        good = raise_scale_for_sums(good, exact, pair.node)
    found, best = pair.values - exact, good.fake_quantize(exact) - exact
    ratios = np.atleast_1d(pair.encoding.scale / good.scale)
    excess, factor, where = _excess(_power(found), _power(best), exact), float(np.median(ratios)), ""
    if axis is not None:
        channel, worst = _worst_channel(*(np.moveaxis(array, axis, 0) for array in (found, best, exact)))
        if worst > excess + FAULT / 2:
            excess, factor, where = worst, float(ratios[channel]), f", channel {channel},"
    snr = signal_to_noise(_power(exact), _power(found))
    return ScaleCheck(
        pair.tensor, "weight", f"{pair.node.op_type} '{pair.node.name}'{where}", qtype.bits, excess, snr, factor
    )


def _worst_channel(found: Floats, best: Floats, exact: Floats) -> tuple[int, float]:
    """The channel with the largest excess, and that excess; channels close to zero are left out."""
    powers = [_power(channel) for channel in exact]
    alive = [index for index, power in enumerate(powers) if power >= ALIVE * sum(powers) / len(powers)]
    excess = {index: _excess(_power(found[index]), _power(best[index]), exact[index]) for index in alive}
    return max(excess.items(), key=lambda entry: entry[1])


def _power(values: Floats) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _excess(noise: float, best: float, exact: Floats) -> float:
    """dB above the noise of a good scale, which counts as at least 1e-11 of the signal."""
    return 10 * math.log10(max(noise, 1e-30) / max(best, 1e-11 * _power(exact), 1e-30))
