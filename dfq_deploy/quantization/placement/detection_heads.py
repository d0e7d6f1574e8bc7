"""Detection heads: keep a Concat of boxes and scores in float where one scale cannot hold both.

A box is 0 to 640 and a score 0 to 1: with one scale for both, 8 bits leave two levels for a score, and nothing is
detected.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import Range
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.graph.traversal import after, weighted_after
from dfq_deploy.quantization.placement.place import Placement, place
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.target import Target

__all__ = ["RATIO", "separate_detection_heads"]

RATIO = 8.0
"""Largest ratio of magnitudes at which two parts may share one scale: three of the eight bits."""

SPLITTING_OPS = frozenset({"Split", "Slice", "Gather"})

MEASURED_SAMPLES = 8
"""Number of samples on which the channels of last convolutions are measured."""


def separate_detection_heads(
    model: ir.Model, target: Target, placement: Placement, ranges: Mapping[str, Range], samples: Samples
) -> tuple[Placement, tuple[str, ...]]:
    """Remove from ``placement`` the shared scales that would break a detection head.

    Rules: (1) a Concat that shares one scale with inputs whose measured magnitudes differ by more than 8 times stays
    float, if its output is split again before it is quantized next (else one scale applies after it anyway); (2) a
    convolution that no weighted node follows writes float, if the magnitudes of its channels differ by more than 8
    times. It loses its integer kernel, which is acceptable for a last convolution but not for an inner one.

    A target without floats keeps the shared scales; the verdict compares boxes and scores apart.

    Returns:
        the new placement, and one sentence for each node that stays float.
    """
    messages: dict[str, str] = {}
    if not target.floats:
        return placement, ()
    float_nodes: list[str] = []
    for node in model.graph:
        input_names = [name_of(value) for value in node.inputs if name_of(value) in ranges]
        if not is_op(node, "Concat") or not any(
            {*input_names, name_of(node.outputs[0])} <= group for group in placement.shared
        ):
            continue
        magnitudes = sorted(_magnitude(ranges[name]) for name in input_names)
        movers = _movers_before_split(node, target)
        if movers is None or magnitudes[-1] <= RATIO * magnitudes[0]:
            continue
        if name_of(node.outputs[0]) not in place(model, target, [str(node.name), *movers], placement.kept).activations:
            float_nodes += [str(node.name), *movers]
            messages[str(node.name)] = (
                f"Concat '{node.name}' joins values up to {magnitudes[-1]:.3g} with values up to {magnitudes[0]:.3g}: "
                "it stays float, since one scale would cost the small ones their precision"
            )
    for name, (large, small) in _channel_extremes(model, target, placement, samples).items():
        if large > RATIO * small:
            messages[name] = (
                f"the channels of the last convolution '{name}' reach from {small:.3g} to {large:.3g}: it writes "
                "float, since one scale would cost the small ones their precision"
            )
    return (place(model, target, [*float_nodes, *messages], placement.kept) if messages else placement), tuple(
        messages.values()
    )


def _movers_before_split(node: ir.Node, target: Target) -> list[str] | None:
    """Return the nodes after a Concat that only move its values, if one of them splits them again; else None."""

    def moves(reader: ir.Node) -> bool:
        return is_op(reader, target.passing_ops)

    movers = [reader for reader in after(node, moves) if moves(reader)]
    if not any(is_op(reader, SPLITTING_OPS) for reader in movers):
        return None
    return [str(reader.name) for reader in movers]


def _magnitude(measured: Range) -> float:
    return max(abs(measured.low), abs(measured.high), 1e-12)


def _channel_extremes(
    model: ir.Model, target: Target, placement: Placement, samples: Samples
) -> dict[str, tuple[float, float]]:
    """Measure the largest and smallest channel magnitude of each last convolution that would be quantized."""
    from dfq_deploy.runtime.runner import Runner
    from dfq_deploy.runtime.session import expose_tensors

    last_convolutions = {}
    for node in model.graph:
        rank = None if node.outputs[0].shape is None else len(node.outputs[0].shape)
        if not is_op(node, "Conv") or rank is None or weighted_after(node):
            continue
        if node.outputs[0].name in placement.activations:
            placement_without = place(model, target, [str(node.name)], placement.kept)
            if node.outputs[0].name not in placement_without.activations:
                last_convolutions[str(node.name)] = node.outputs[0]
    if not last_convolutions:
        return {}
    exposed = expose_tensors(model, [name_of(value) for value in last_convolutions.values()])
    arrays = Runner(exposed, name="the float model").run(samples.part(slice(MEASURED_SAMPLES)))
    extremes = {}
    for name, array in zip(last_convolutions, arrays, strict=True):
        if not isinstance(array, tuple):
            magnitudes = np.abs(array).max(axis=(0, *range(2, array.ndim)))
            active = magnitudes[magnitudes > 1e-6 * magnitudes.max()]
            if active.size > 1:
                extremes[name] = (float(active.max()), float(active.min()))
    return extremes
