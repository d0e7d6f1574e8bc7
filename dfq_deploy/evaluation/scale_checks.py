"""Compare each scale of a quantized file with the scale that the float model's values need.

Noise accumulates along a graph: it shows that there is a fault before a tensor, not where. The noise that a tensor's
own Q and DQ add to its float values, relative to the noise of a good scale of the same bits, locates the fault.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.equalized_weights import UNKNOWN
from dfq_deploy.evaluation.flat_readers import excess_behind
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.evaluation.qdq_pairs import ActivationPair, activation_pairs, weight_pairs
from dfq_deploy.evaluation.scale_check import FAULT, ScaleCheck, excess_of, power_of
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.evaluation.weight_checks import weight_checks
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.placement.limits import UNBOUNDED
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.samples.samples import Samples

__all__ = ["activation_checks", "in_order", "scale_checks"]

UNIT_RANGE = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
"""Operators that write 0 to 1: a scale for all of that is not wrong, however small the values of a few samples are."""

CLIPPED = 30.0
"""dB of signal to noise from which another zero point is none that is wrong: other inputs than those of the calibration
go beyond one end of the range. At 16 bits that is far above the noise of rounding, and still harmless."""

Floats = NDArray[np.floating[Any]]


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
    floats = FloatWeights(reference)
    weights, equalized = weight_checks(floats, quantized, weight_pairs(quantized))
    return in_order((*weights, *activation_checks(reference, quantized, samples, equalized.tensors(floats.lowered))))


def in_order(checks: Iterable[ScaleCheck]) -> tuple[ScaleCheck, ...]:
    """The worst first."""
    return tuple(sorted(checks, key=lambda check: (not check.is_fault, -check.excess, check.tensor)))


def activation_checks(
    reference: ir.Model, quantized: ir.Model, samples: Samples, equalized: Mapping[str, Floats] | None
) -> list[ScaleCheck]:
    """Every activation.

    Args:
        equalized: tensor -> the factor of each of its channels; None where these are not known: then the file's own
            values alone tell.
    """
    pairs = activation_pairs(quantized)
    computed = [*reference.graph.inputs, *(value for node in reference.graph for value in node.outputs)]
    known = {name_of(value): value for value in computed}
    folded = _folded_into(reference, quantized)
    found = tensor_values(reference, [folded.get(pair.tensor, pair.tensor) for pair in pairs], samples)
    values = {pair.tensor: found[name] for pair in pairs if (name := folded.get(pair.tensor, pair.tensor)) in found}
    if equalized is None:
        values, equalized = {}, {}
    # Where no factor is known, the file's own values tell.
    untold = {name for name, factors in equalized.items() if np.all(factors <= UNKNOWN)}
    values = {name: _multiplied(rows, equalized.get(name)) for name, rows in values.items() if name not in untold}
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
    plain = {name: known[name] for name in values if name not in equalized}
    return [
        _activation(
            pair, rows[pair.tensor], ends[pair.tensor], matched=pair.tensor in values, value=plain.get(pair.tensor)
        )
        for pair in pairs
        if pair.tensor in rows and rows[pair.tensor].any()
    ]


def _folded_into(reference: ir.Model, quantized: ir.Model) -> dict[str, str]:
    """Output of a layer -> that of the BatchNormalization, Relu or Clip behind it, where the quantized file lacks that.

    Exporters that fold it keep the layer's own name for what the two compute together, and may give the other one to
    the DequantizeLinear behind it.
    """
    written = [node for node in quantized.graph if not is_op(node, "DequantizeLinear")]
    there = {name_of(value) for node in written for value in node.outputs}
    found: dict[str, str] = {}
    for node in reversed(list(reference.graph)):
        before = node.inputs[0] if is_op(node, ("BatchNormalization", "Relu", "Clip")) else None
        layer = None if before is None or len(before.uses()) > 1 else before.producer()
        takes = WEIGHTED_OPS if is_op(node, "BatchNormalization") else WEIGHTED_OPS | {"BatchNormalization", "Add"}
        of_layer = layer is not None and is_op(layer, takes)
        if of_layer and name_of(node.outputs[0]) not in there and before is not None:
            behind = name_of(node.outputs[0])
            found[name_of(before)] = found.get(behind, behind)
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


def _activation(
    pair: ActivationPair, rows: Floats, ends: tuple[float, float], *, matched: bool, value: ir.Value | None
) -> ScaleCheck:
    written, exact = pair.written, rows.astype(np.float32)
    needed = Encoding.of_bounds(np.asarray(ends[0]), np.asarray(ends[1]), written.qtype, None)
    noise, best = power_of(pair.restored(exact) - exact), _least(needed, exact, ends)
    drift = float(pair.read.scale) / float(written.scale)
    factor = drift if abs(math.log2(drift)) > 0.5 else float(written.scale) / float(needed.scale)
    excess, snr = excess_of(noise, best, exact), signal_to_noise(power_of(exact), noise)
    middle = 0 if written.qtype.signed else 2 ** (written.qtype.bits - 1)
    reach = 2 * max(abs(ends[0]), abs(ends[1])) if int(written.zero_point) == middle else ends[1] - ends[0]
    room = factor * (ends[1] - ends[0]) / reach if reach > 0 else 1.0
    check = ScaleCheck(pair.tensor, "activation", "", written.qtype.bits, excess, snr, factor, matched, room=room)
    if check.is_fault and value is not None and _clips(pair, exact):
        behind = excess_behind(value, exact, pair.restored(exact), needed.fake_quantize(exact), written.qtype.bits)
        check = check if behind is None or behind >= FAULT else replace(check, excess=min(excess, behind))
    detail = _of_zero_point(pair, exact, ends, best, snr) if check.is_fault else ""
    return replace(check, cause="zero point", detail=detail) if detail else check


def _least(needed: Encoding, exact: Floats, ends: tuple[float, float]) -> float:
    """Power of the noise of a good scale; values at the ends of its range, which it alone keeps, count as rounded.

    Where a function saturates, many values may lie there.
    """
    kept = np.count_nonzero(exact[(exact == np.float32(ends[0])) | (exact == np.float32(ends[1]))])
    return power_of(needed.fake_quantize(exact) - exact) + kept * float(needed.scale) ** 2 / 12


def _clips(pair: ActivationPair, exact: Floats) -> bool:
    """Whether most of the noise is that of values beyond the range."""
    errors = pair.restored(exact) - exact
    outside = (exact < pair.written.range.low) | (exact > pair.written.range.high)
    return 2 * power_of(errors[outside]) >= power_of(errors)


def _of_zero_point(pair: ActivationPair, exact: Floats, ends: tuple[float, float], best: float, snr: float) -> str:
    """What is wrong with the zero point, where another one beside the same scale removes the noise; else empty."""
    written, read = pair.written, pair.read
    if not np.allclose(read.scale, written.scale):
        return ""
    if written.qtype.signed and int(written.zero_point) == int(read.zero_point) == 0:
        return ""  # symmetric on purpose
    if written.zero_point == read.zero_point and snr >= CLIPPED:
        return ""
    low, high = written.qtype.qmin, written.qtype.qmax
    needed = int(np.clip(round(low - ends[0] / float(written.scale)), low, high))
    # Where values go one way only, it is the end of the integers, whatever rounding says.
    other = replace(written, zero_point=np.asarray(needed, np.int32))
    if excess_of(power_of(other.fake_quantize(exact) - exact), best, exact) >= FAULT / 2:
        return ""
    zeros = int(written.zero_point), int(read.zero_point)
    if zeros[0] != zeros[1]:
        return f"is {zeros[0]} in QuantizeLinear and {zeros[1]} in DequantizeLinear"
    return f"is {zeros[0]}, where its values need about {needed}"
