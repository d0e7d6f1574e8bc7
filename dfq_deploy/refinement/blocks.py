"""Split a network into blocks for reconstruction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dfq_deploy.twin import Step, Twin
from dfq_deploy.twin.in_step import counts_samples

__all__ = ["Block", "blocks_of", "with_rows"]

LARGEST_CHAIN = 2
"""Number of consecutive weighted layers, without a branch around them, that form one block."""


@dataclass(frozen=True)
class Block:
    """Consecutive steps of the twin with one input and one output.

    Args:
        input, output: names of the input and the output tensor.
        steps: in order.
        weights: names of the quantized weights of the block.
    """

    input: str
    output: str
    steps: tuple[Step, ...]
    weights: tuple[str, ...]


def blocks_of(twin: Twin, weights: Collection[str]) -> tuple[Block, ...]:
    """Cut ``twin`` wherever a single tensor separates the steps before from the steps after.

    A residual block with its shortcut is one block; two consecutive layers without a branch are merged into one, and
    steps without a weight belong to the layers before them. Where a graph output or a shape computation bypasses a
    tensor, no cut is possible there, and blocks become larger.

    Args:
        twin: with one input.
        weights: names of the quantized weights.
    """
    blocks = _smallest_blocks(twin, weights)
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        is_chain = last is not None and len(last.weights) + len(block.weights) <= LARGEST_CHAIN
        if last is not None and (is_chain or not block.weights or not last.weights):
            steps = (*last.steps, *block.steps)
            merged[-1] = Block(last.input, block.output, steps, (*last.weights, *block.weights))
        else:
            merged.append(block)
    return tuple(merged)


def with_rows(blocks: Sequence[Block], twin: Twin, sample: Tensor, batch: int) -> tuple[Block, ...]:
    """Blocks between whose tensors the first axis counts samples; those between which it does not become one.

    Args:
        twin: that ``blocks`` are of.
        sample: a feed of one run, (``batch``, ...).
    """
    with torch.no_grad():
        found = twin.run({twin.input_names[0]: sample}, keep=[block.output for block in blocks])
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last is not None and not counts_samples(found[last.output], batch):
            joined = replace(last, output=block.output, steps=(*last.steps, *block.steps))
            merged[-1] = replace(joined, weights=(*last.weights, *block.weights))
        else:
            merged.append(block)
    return tuple(merged)


def _smallest_blocks(twin: Twin, weights: Collection[str]) -> list[Block]:
    """Return the smallest blocks: no other tensor passes their input and their output."""
    steps = twin.steps
    last_use = {name: index for index, step in enumerate(steps) for name in step.inputs if name}
    last_use.update(dict.fromkeys(twin.output_names, len(steps)))
    start, first = twin.input_names[0], 0
    live = {start}
    blocks = []
    for index, step in enumerate(steps):
        live.update(name for name in step.outputs if name)
        live = {name for name in live if last_use.get(name, -1) > index}
        if len(live) == 1 and not step.on_host:
            (end,) = live
            block_steps = steps[first : index + 1]
            block_weights = tuple(name for part in block_steps for name in part.inputs if name in weights)
            blocks.append(Block(start, end, block_steps, block_weights))
            start, first = end, index + 1
    return blocks
