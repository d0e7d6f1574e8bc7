"""Encodings that AIMET made, for a model that is prepared for a target."""

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError
from dfq_deploy.files.aimet_encodings import read_aimet
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import weight_axis
from dfq_deploy.quantization.encode import Prepared

__all__ = ["encodings_of_aimet"]

NAMED = 3


def encodings_of_aimet(path: Path, prepared: Prepared) -> tuple[Mapping[str, Encoding], tuple[str, ...]]:
    """Read an encodings file of AIMET for the tensors that the target quantizes.

    AIMET states no encoding for what only moves values (Reshape, say): it is that of the tensors with which the target
    shares one.

    Returns:
        the encodings, and a note on those that were left out.

    Raises:
        ModelError: the file cannot be read, or has no encoding for one of these tensors.
    """
    there = read_aimet(path, _weight_axes(prepared.model).get, signed=prepared.target.activation.signed)
    moved: dict[str, Encoding] = {}
    for group in prepared.placement.shared:
        stated = [there[name] for name in sorted(group) if name in there]
        moved |= dict.fromkeys(group.difference(there), stated[0]) if stated else {}
    wanted = [*prepared.placement.activations, *prepared.placement.weights]
    missing = [f"'{name}'" for name in wanted if name not in there and name not in moved]
    if missing:
        more = f" and {len(missing) - NAMED} more" if missing[NAMED:] else ""
        raise ModelError(
            f"{path.name}: it has no encoding for {', '.join(missing[:NAMED])}{more}, of {len(wanted)} tensors that "
            f"{prepared.target.name} quantizes; fold BatchNormalization before AIMET's simulation, or calibrate here"
        )
    left = len(there.keys() - set(wanted))
    note = f"{left} encodings of {path.name} were left out: {prepared.target.name} needs none there"
    return {name: (moved | there)[name] for name in wanted}, (note,) if left else ()


def _weight_axes(model: ir.Model) -> dict[str, int]:
    """Name of each weight -> the axis of its output channels."""
    axes = {}
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 1 else None
        if weight is not None:
            behind = len(weight.shape or ()) - 2 if is_op(node, "MatMul") else 0
            axes[str(weight.name)] = weight_axis(node) + behind
    return axes
