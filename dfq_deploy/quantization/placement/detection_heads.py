"""Separate boxes and scores that one scale would break.

A box is 0 to 640 and a score 0 to 1: at one scale for both, 8 bits leave a score two levels, and nothing is detected.
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
"""How many times larger one part may be than another at one scale: three of the eight bits."""

TAKING_APART = frozenset({"Split", "Slice", "Gather"})

LOOKED_AT = 8
"""Samples from which the channels of last convolutions are measured."""


def separate_detection_heads(
    model: ir.Model, target: Target, placement: Placement, ranges: Mapping[str, Range], samples: Samples
) -> tuple[Placement, tuple[str, ...]]:
    """The placement without the scales that would break a head, and a sentence on each.

    Rules: (1) a Concat that shares one scale with inputs whose measured magnitudes differ by more than 8 times stays
    float, where its output is taken apart again before it is quantized next (else one scale rules behind it anyway);
    (2) a convolution that no weighted node follows writes float, where the magnitudes of its channels differ by more
    than 8 times: it costs its integer kernel, which a last one can afford and an inner one cannot.
    """
    said: dict[str, str] = {}
    apart: list[str] = []
    for node in model.graph:
        parts = [name_of(value) for value in node.inputs if name_of(value) in ranges]
        if not is_op(node, "Concat") or not any(
            {*parts, name_of(node.outputs[0])} <= group for group in placement.shared
        ):
            continue
        sizes = sorted(_magnitude(ranges[name]) for name in parts)
        behind = _taken_apart(node, target)
        if behind is None or sizes[-1] <= RATIO * sizes[0]:
            continue
        if name_of(node.outputs[0]) not in place(model, target, [str(node.name), *behind], placement.kept).activations:
            apart += [str(node.name), *behind]
            said[str(node.name)] = (
                f"Concat '{node.name}' joins values up to {sizes[-1]:.3g} with values up to {sizes[0]:.3g}: it stays "
                "float, since one scale would cost the small ones their precision"
            )
    for name, (large, small) in _channels(model, target, placement, samples).items():
        if large > RATIO * small:
            said[name] = (
                f"the channels of the last convolution '{name}' reach from {small:.3g} to {large:.3g}: it writes "
                "float, since one scale would cost the small ones their precision"
            )
    return (place(model, target, [*apart, *said], placement.kept) if said else placement), tuple(said.values())


def _taken_apart(node: ir.Node, target: Target) -> list[str] | None:
    """The nodes behind a Concat that only move its values, if one of them takes them apart again; else None."""

    def moves(reader: ir.Node) -> bool:
        return is_op(reader, target.passing_ops)

    found = [reader for reader in after(node, moves) if moves(reader)]
    if not any(is_op(reader, TAKING_APART) for reader in found):
        return None
    return [str(reader.name) for reader in found]


def _magnitude(span: Range) -> float:
    return max(abs(span.low), abs(span.high), 1e-12)


def _channels(
    model: ir.Model, target: Target, placement: Placement, samples: Samples
) -> dict[str, tuple[float, float]]:
    """Largest and smallest magnitude among the channels of each last convolution that would be quantized."""
    from dfq_deploy.runtime.runner import Runner
    from dfq_deploy.runtime.session import expose_tensors

    ends = {}
    for node in model.graph:
        rank = None if node.outputs[0].shape is None else len(node.outputs[0].shape)
        if not is_op(node, "Conv") or rank is None or weighted_after(node):
            continue
        if node.outputs[0].name in placement.activations:
            without = place(model, target, [str(node.name)], placement.kept)
            if node.outputs[0].name not in without.activations:
                ends[str(node.name)] = node.outputs[0]
    if not ends:
        return {}
    shown = expose_tensors(model, [name_of(value) for value in ends.values()])
    arrays = Runner(shown, name="the float model").run(samples.part(slice(LOOKED_AT)))
    found = {}
    for name, array in zip(ends, arrays, strict=True):
        if not isinstance(array, tuple):
            sizes = np.abs(array).max(axis=(0, *range(2, array.ndim)))
            alive = sizes[sizes > 1e-6 * sizes.max()]
            if alive.size > 1:
                found[name] = (float(alive.max()), float(alive.min()))
    return found
