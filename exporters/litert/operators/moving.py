"""Reshape, Transpose, Squeeze and others that keep all values."""

import numpy as np

from ..orders import natural, permuted, reshaped, without_axes
from ..registry import operator
from ..step import Step

__all__ = ["expand", "reshape", "transpose"]


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze", kind="same")
def reshape(step: Step) -> None:
    """RESHAPE; axes that it does not merge stay as they lie."""
    entry = step.input(0)
    before, after = reshaped(entry.shape, step.shape, entry.order)
    source = step.input(0, before).tensor
    step.store(step.writer.reshape(source, permuted(step.shape, after)), after)


@operator("Transpose", kind="same")
def transpose(step: Step) -> None:
    """Nothing: the array lies as it is, and its axes get other names."""
    entry = step.input(0)
    perm = step.integers("perm", list(natural(len(entry.order))[::-1]))
    step.store(entry.tensor, tuple(perm.index(axis) for axis in entry.order))


@operator("Expand", kind="float")
def expand(step: Step) -> None:
    """BROADCAST_TO."""
    rank = len(step.shape)
    source = step.operand(0, natural(rank))
    target = step.writer.numbers("shape", list(step.shape))
    step.write("BROADCAST_TO", [source, target], natural(rank), "BroadcastToOptions")


@operator("Tile", kind="same")
def tile(step: Step) -> None:
    """TILE."""
    entry = step.input(0)
    repeats = permuted(step.required(1, "repeats").astype(int).tolist(), entry.order)
    step.write("TILE", [entry.tensor, step.writer.numbers("repeats", list(repeats))], entry.order, "TileOptions")


@operator("DepthToSpace", kind="same")
def depth_to_space(step: Step) -> None:
    """DEPTH_TO_SPACE (DCR); for CRD the axes are moved one by one."""
    block = step.integer("blocksize", 1)
    batch, channels, height, width = step.input(0).shape
    if step.text("mode", "DCR") == "DCR":
        source = step.input(0, (0, 2, 3, 1)).tensor
        step.write("DEPTH_TO_SPACE", [source], (0, 2, 3, 1), "DepthToSpaceOptions", {"blockSize": block})
        return
    rest = channels // block**2
    source = step.input(0, (0, 2, 3, 1)).tensor  # N H W (C b b)
    split = step.writer.reshape(source, (batch, height, width, rest, block, block))
    moved = step.writer.like(f"{split.name}_moved", split, (batch, height, block, width, block, rest))
    steps = step.writer.numbers("permutation", [0, 1, 4, 2, 5, 3])
    step.writer.emit("TRANSPOSE", [split, steps], moved, "TransposeOptions")
    step.store(step.writer.reshape(moved, (batch, height * block, width * block, rest)), (0, 2, 3, 1))


@operator("SpaceToDepth", kind="same")
def space_to_depth(step: Step) -> None:
    """SPACE_TO_DEPTH."""
    source = step.input(0, (0, 2, 3, 1)).tensor
    options = {"blockSize": step.integer("blocksize", 1)}
    step.write("SPACE_TO_DEPTH", [source], (0, 2, 3, 1), "SpaceToDepthOptions", options)


@operator("Gather", kind="same")
def gather(step: Step) -> None:
    """GATHER; the array lies as it is unless indices have several axes."""
    entry, indices = step.input(0), step.constant(1)
    rank = len(entry.order)
    axis = step.integer("axis", 0) % rank
    if indices is not None:
        indices = np.where(indices < 0, indices + entry.shape[axis], indices).astype(np.int32)
        chosen = step.writer.constant(f"{step.node.name}_indices", indices)
    else:
        chosen = step.writer.in_order(
            step.values.plain(step.node.inputs[1]), natural(len(step.shape) - rank + 1)
        ).tensor
    if len(chosen.shape) == 1:
        order = entry.order
    elif not chosen.shape:
        order = without_axes(entry.order, [axis])
    else:
        entry, order = step.input(0, natural(rank)), natural(len(step.shape))
    options = {"axis": entry.order.index(axis)}
    step.write("GATHER", [entry.tensor, chosen], order, "GatherOptions", options)
