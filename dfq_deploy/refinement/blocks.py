"""Split a network into blocks for reconstruction."""

from collections.abc import Collection
from dataclasses import dataclass

from dfq_deploy.twin import Step, Twin

__all__ = ["Block", "blocks_of"]

LARGEST_CHAIN = 2
"""Weighted layers of a plain chain (no branch around them) that make one block."""


@dataclass(frozen=True)
class Block:
    """A stretch of the twin.

    Args:
        input, output: names of the tensors by which the signal enters and leaves.
        steps: in order.
        weights: names of the quantized weights within.
    """

    input: str
    output: str
    steps: tuple[Step, ...]
    weights: tuple[str, ...]


def blocks_of(twin: Twin, weights: Collection[str]) -> tuple[Block, ...]:
    """Cut ``twin`` wherever a single tensor carries the whole signal.

    A residual block, whose shortcut runs beside its convolutions, is one block; of layers that follow each other two
    are taken together, and what holds no weight goes with the layers before it. Where an output is taken off halfway,
    or shapes are computed across the graph, no cut is possible, and blocks grow larger.

    Args:
        twin: with one input.
        weights: names of the weights that are quantized.
    """
    pieces = _pieces(twin, weights)
    merged: list[Block] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        is_chain = last is not None and len(last.weights) + len(piece.weights) <= LARGEST_CHAIN
        if last is not None and (is_chain or not piece.weights or not last.weights):
            steps = (*last.steps, *piece.steps)
            merged[-1] = Block(last.input, piece.output, steps, (*last.weights, *piece.weights))
        else:
            merged.append(piece)
    return tuple(merged)


def _pieces(twin: Twin, weights: Collection[str]) -> list[Block]:
    """The smallest stretches between two tensors that nothing runs past."""
    steps = twin.steps
    last_use = {name: index for index, step in enumerate(steps) for name in step.inputs if name}
    last_use.update(dict.fromkeys(twin.output_names, len(steps)))
    start, begin = twin.input_names[0], 0
    alive = {start}
    pieces = []
    for index, step in enumerate(steps):
        alive.update(name for name in step.outputs if name)
        alive = {name for name in alive if last_use.get(name, -1) > index}
        if len(alive) == 1 and not step.on_host:
            (end,) = alive
            within = steps[begin : index + 1]
            found = tuple(name for part in within for name in part.inputs if name in weights)
            pieces.append(Block(start, end, within, found))
            start, begin = end, index + 1
    return pieces
