"""Prepare a float model for a target and turn ranges into encodings."""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftSubgraphInitializersToMainGraphPass

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.inputs import ExtraInputs, is_channels_last
from dfq_deploy.graph.operators import is_op, operator_of
from dfq_deploy.graph.passes.copied_sizes import copy_sizes
from dfq_deploy.graph.passes.dense_layers import normalize_dense_layers
from dfq_deploy.graph.passes.einsum_products import rewrite_einsums
from dfq_deploy.graph.passes.fold_affine import fold_affine
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.passes.fold_pads import fold_pads
from dfq_deploy.graph.passes.open_sizes import reopen
from dfq_deploy.graph.query import name_of
from dfq_deploy.plugins.contracts import Calibrator, Student
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits, with_bits
from dfq_deploy.quantization.dynamic import (
    ROW_GAIN,
    Activations,
    dynamic_form,
    is_worth_it,
    mark_dynamic,
    step_squares,
)
from dfq_deploy.quantization.known_ranges import RangeMemory, fixed_ranges, softmax_ranges
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.narrow_copies import add_narrow_copies
from dfq_deploy.quantization.overrides import NO_OVERRIDES, Overrides
from dfq_deploy.quantization.placement.detection_heads import separate_detection_heads
from dfq_deploy.quantization.placement.place import Placement, encodings_of_weights, place, unify
from dfq_deploy.quantization.placement.single_scales import with_single_scales
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.quantization.tables import mark_lookups
from dfq_deploy.quantization.weights import best_bounds
from dfq_deploy.quantization.wide_heads import widen_heads
from dfq_deploy.runtime.activations import activations as activations_of
from dfq_deploy.runtime.other_sizes import at_other_sizes
from dfq_deploy.runtime.plugin_nodes import behind_plugins, plugin_nodes
from dfq_deploy.samples.batches import SampleBatches, tensors_of_known_range
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.target import Target
from dfq_deploy.validation.budget import noted

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import SynthesisRequest

__all__ = ["HEADROOM", "Prepared", "Quantized", "encode", "headroom_of", "measure_ranges", "prepare", "student_maker"]

logger = logging.getLogger(__name__)

HEADROOM = 1.2
"""Factor by which ranges measured on synthesized samples are widened.

Features of synthesized samples match the mean and the variance of real ones, but have thinner tails: on resnet20_kd
the largest values after the last block reach 0.6 to 0.8 of those of real images. Clipping the missing tails costs more
than the resolution that the headroom takes. Chosen on CIFAR-10 training images (benchmarks/headroom.py). Below 8 bits
resolution matters more than tails, and ranges stay as measured.
"""

FORM_SAMPLES = 16
"""Number of samples on which the forms of dynamic layers are chosen."""

STUDENT_SAMPLES = 64
"""Number of procedural images on which the ranges of a student for synthesis are measured."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A copy of the model, folded and lowered for a target, with the placement of Q and DQ.

    Args:
        model: refinements and fine-tuning change its weights and biases in place.
        target, bits: the target and the bit widths that the model was prepared for.
        placement: the tensors that get Q and DQ, with their integer types.
        overrides: requested changes of the placement and of the ranges.
    """

    model: ir.Model
    target: Target
    bits: Bits
    placement: Placement
    overrides: Overrides = NO_OVERRIDES


@dataclass(frozen=True, eq=False)
class Quantized:
    """A prepared model with the encoding of every quantized tensor.

    Args:
        encodings: by tensor name, weights included.
        warnings: one sentence for each operator that was kept in float, and for what memory decided.
    """

    prepared: Prepared
    encodings: dict[str, Encoding]
    warnings: tuple[str, ...] = ()


def prepare(
    source: ir.Model,
    target: Target,
    bits: Bits | None = None,
    overrides: Overrides = NO_OVERRIDES,
    activations: Activations = "auto",
) -> Prepared:
    """Fold and lower a copy of ``source`` for ``target``, and decide which of its tensors are quantized.

    Sizes that were fixed for measuring are dynamic in it, unless ``target`` requires static shapes.

    Args:
        activations: which layers quantize their activations at run time; none below 8 bits.

    Raises:
        OptionError: ``overrides`` name an unknown tensor or node, or a type that the target does not support.
    """
    model = source.clone()
    if not target.static_shapes:
        reopen(model)
        copy_sizes(model)
    fold_pads(model)
    if target.whole_ops is None:
        rewrite_einsums(model)
    normalize_dense_layers(model)
    fold_affine(model)
    fold_batch_normalization(model)
    fold_affine(model)
    lower(model, target)
    widen_heads(model, target)
    bits = bits or Bits()
    add_narrow_copies(model, bits)
    kept = overrides.kept(source, model, target)
    if activations == "float":
        kept |= {str(node.name) for node in model.graph.all_nodes() if not is_op(node, "Gather")}
    if bits.is_plain:
        _mark_dynamic(model, target, kept, activations)
    placed = overrides.explained(place(model, target, kept=kept))
    placement = overrides.typed(_with_bits(placed, model, bits, target), model, target)
    mark_lookups(model, placement.tables)
    return Prepared(model, target, bits, placement, overrides)


def _mark_dynamic(model: ir.Model, target: Target, kept: frozenset[str], activations: Activations) -> None:
    """Mark the layers whose activations are quantized at run time, in place."""
    if activations in ("static", "float") or not target.dynamic_ops:
        return
    LiftSubgraphInitializersToMainGraphPass()(model)
    excluded = {*spectral_nodes(model), *behind_plugins(model)}
    for node in model.graph.all_nodes():
        unmeasured = node.graph is not model.graph or is_op(node, "LSTM")
        if (activations == "dynamic" or unmeasured) and node.name not in kept and node not in excluded:
            mark_dynamic(node, "tensor" if is_worth_it(node, target) else None)


def encode(
    prepared: Prepared,
    calibrator: Calibrator,
    samples: Samples,
    preprocess: Preprocess | None = None,
    progress: Progress = SILENT,
    known: Mapping[str, Range] | None = None,
    memory: RangeMemory | None = None,
) -> Quantized:
    """Measure ranges on ``samples``, and compute the encodings of activations and weights.

    The placement may change: parts of a detection head that one common scale would break stay float
    (:mod:`dfq_deploy.quantization.placement.detection_heads`), and dense weights get one scale where that is faster
    (:mod:`dfq_deploy.quantization.placement.single_scales`).

    Args:
        known: ranges by tensor name that are not measured again, in addition to those of
            :mod:`dfq_deploy.quantization.known_ranges`.
        memory: of these samples and weights; it gets what is measured now.
    """
    model, bits, overrides = prepared.model, prepared.bits, prepared.overrides
    types, memory = prepared.placement.activations, memory or RangeMemory()
    known = {**softmax_ranges(model), **memory.known(types), **(known or {})}
    known |= fixed_ranges(model, prepared.target, types)
    with noted() as notes:
        measured = measure_ranges(model, types, calibrator, samples, preprocess, progress, known)
        memory.keep(measured, types, notes)
        _choose_forms(model, samples, progress)
    placement, messages = separate_detection_heads(model, prepared.target, prepared.placement, measured, samples)
    if messages:
        placement = overrides.explained(placement)
        placement = overrides.typed(_with_bits(placement, model, bits, prepared.target), model, prepared.target)
    placement = with_single_scales(placement, model, prepared.target)
    ranges = overrides.ranged(unify(measured, placement), placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    logger.info(
        "encodings: %d activations on %d samples, headroom %g, %d weights; %d layers stay in float",
        *(len(encodings), len(samples), headroom_of(bits.activations, samples), len(placement.weights)),
        len(placement.left_float),
    )
    encodings |= encodings_of_weights(model, placement, best_bounds, activations=encodings)
    messages = (*_plugin_warnings(model, prepared.target), *messages, *notes)
    return Quantized(replace(prepared, placement=placement), encodings, messages)


def _with_bits(placement: Placement, model: ir.Model, bits: Bits, target: Target) -> Placement:
    return with_bits(placement, model, bits, symmetric_16=target.symmetric_16)


def _choose_forms(model: ir.Model, samples: Samples, progress: Progress) -> None:
    """Mark the dynamic layers that gain from a scale for each row, in place; measured on a few samples."""
    products = [node for node in model.graph if dynamic_form(node) is not None and not is_op(node, "LSTM")]
    names = list(dict.fromkeys(name_of(node.inputs[0]) for node in products))
    if not names:
        return
    noise = {name: np.zeros(2) for name in names}
    few = SampleBatches(model, samples.part(slice(FORM_SAMPLES)))
    with closing(activations_of(model, names, few, progress)) as slices:
        for arrays in slices:
            for name, array in arrays.items():
                noise[name] += sum(step_squares(sample) for sample in array)
    for node in products:
        by_tensor, by_row = noise[name_of(node.inputs[0])]
        mark_dynamic(node, "row" if by_tensor > by_row * 10 ** (ROW_GAIN / 10) else "tensor")


def _plugin_warnings(model: ir.Model, target: Target) -> tuple[str, ...]:
    """A sentence on the nodes that are kept though nothing here runs them, where the target may not have them."""
    names = sorted({operator_of(node) for node in plugin_nodes(model)})
    if not names or target.has_plugins:
        return ()
    return (
        f"ONNX Runtime does not have {', '.join(names)}: what comes before is calibrated and compared, the node is "
        f"kept as it is, and {target.runtime} must have it",
    )


def headroom_of(bits: int, samples: Samples) -> float:
    """Return the factor for measured ranges: :data:`HEADROOM` for synthesized samples at 8 bits and more, else 1."""
    return HEADROOM if samples.is_synthetic and bits >= 8 else 1.0


def measure_ranges(
    model: ir.Model,
    types: Mapping[str, QuantType],
    calibrator: Calibrator,
    samples: Samples,
    preprocess: Preprocess | None = None,
    progress: Progress = SILENT,
    known: Mapping[str, Range] | None = None,
) -> dict[str, Range]:
    """Measure the ranges of activations, with headroom where samples are synthesized.

    The range of the input follows from the preprocessing, where that is given. Where the sizes of ``model`` are open,
    the ranges are those of all the sizes that it is measured at (:mod:`dfq_deploy.runtime.other_sizes`).

    Args:
        types: the tensors of ``model`` to measure, by name.
        known: ranges by tensor name that are not measured again.
    """
    known = known or {}
    unknown = {name: qtype for name, qtype in types.items() if name not in known}
    measured = dict(calibrator.ranges(model, unknown, SampleBatches(model, samples), progress)) if unknown else {}
    for more in at_other_sizes(model, samples) if unknown else ():
        for name, other in calibrator.ranges(model, unknown, SampleBatches(model, more), progress).items():
            low, high = measured[name].low, measured[name].high
            measured[name] = Range(min(low, other.low), max(high, other.high))
    ranges = {name: known[name] for name in types if name in known}
    for tensor, measured_range in measured.items():
        headroom = headroom_of(types[tensor].bits, samples)
        ranges[tensor] = Range(measured_range.low * headroom, measured_range.high * headroom)
    if preprocess is not None:
        shape = samples.images.shape[1:]
        channels = shape[-1] if is_channels_last(model) else shape[0]
        ranges |= {
            name: preprocess.range_for(channels, types[name]) for name in tensors_of_known_range(model) & ranges.keys()
        }
    return ranges


def student_maker(
    source: ir.Model, target: Target, bits: Bits | None
) -> "Callable[[SynthesisRequest, ExtraInputs], Student]":
    """Return a function that builds a quantized student for synthesis methods that need one.

    Such methods search for samples on which student and teacher differ. As there are no samples yet, the student's
    ranges are measured on procedural images.
    """

    def make(request: "SynthesisRequest", extra: ExtraInputs) -> Student:
        from dfq_deploy.quantization.fake_quant import student_function

        images = find_plugin("synthesizers", "procedural")().synthesize([], replace(request, count=STUDENT_SAMPLES))
        rows = {name: array[:1].repeat(STUDENT_SAMPLES, 0) for name, array in extra.items()}
        channels_last = is_channels_last(source)
        samples = replace(
            images, images=images.images.transpose(0, 2, 3, 1) if channels_last else images.images, extra=rows
        )
        quantized = encode(
            prepare(source, target, bits), find_plugin("calibrators", "minmax")(), samples, request.preprocess
        )
        return student_function(quantized.prepared.model, quantized.encodings, extra, request.device)

    return make
