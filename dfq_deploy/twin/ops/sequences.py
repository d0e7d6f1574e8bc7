"""Sequences of tensors, which are Python lists between the steps."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.control import call, captures, device_of
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("SequenceConstruct", "SequenceEmpty", since=11)
def sequence_construct(node: Node) -> Operator:
    """A sequence of the inputs."""
    return lambda *inputs: list(inputs)  # type: ignore[return-value]  # a sequence


@register("SequenceInsert", since=11, arguments=(2,))
def sequence_insert(node: Node) -> Operator:
    """One tensor more, at the end or before a place."""

    def run(sequence: list[Tensor], tensor: Tensor, place: Tensor | None = None) -> list[Tensor]:
        position = len(sequence) if place is None else int(place.item())
        position += len(sequence) if position < 0 else 0
        return [*sequence[:position], tensor, *sequence[position:]]

    return run  # type: ignore[return-value]  # a sequence


@register("SequenceErase", since=11, arguments=(1,))
def sequence_erase(node: Node) -> Operator:
    """One tensor less, by default the last."""

    def run(sequence: list[Tensor], place: Tensor | None = None) -> list[Tensor]:
        erased = range(len(sequence))[-1 if place is None else int(place.item())]
        return [tensor for position, tensor in enumerate(sequence) if position != erased]

    return run  # type: ignore[return-value]  # a sequence


@register("SequenceAt", since=11, arguments=(1,))
def sequence_at(node: Node) -> Operator:
    """The tensor at a place."""
    return lambda sequence, place: sequence[int(place.item())]


@register("SequenceLength", since=11, on_host=True)
def sequence_length(node: Node) -> Operator:
    """The number of tensors as int64."""
    return lambda sequence: torch.tensor(len(sequence), dtype=torch.int64)


@register("SplitToSequence", since=11, arguments=(1,))
def split_to_sequence(node: Node) -> Operator:
    """Parts of given lengths, of one length, or of length 1 (dropping the axis unless keepdims)."""
    axis, keep = node.integer("axis"), bool(node.integer("keepdims", 1))

    def run(x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        if lengths is None:
            return list(x.unbind(axis)) if not keep else [part.unsqueeze(axis) for part in x.unbind(axis)]
        size = x.shape[axis]
        if lengths.dim():
            parts = [int(length) for length in lengths]
        else:
            each = int(lengths.item())
            parts = [min(each, size - start) for start in range(0, size, each)]
        return list(x.split_with_sizes(parts, axis))

    return run  # type: ignore[return-value]  # a sequence


@register("ConcatFromSequence", since=11)
def concat_from_sequence(node: Node) -> Operator:
    """All tensors joined along an axis, an old one or a new one."""
    axis, new = node.integer("axis"), bool(node.integer("new_axis"))
    return lambda sequence: torch.stack(sequence, axis) if new else torch.cat(sequence, axis)


@register("SequenceMap", since=17)
def sequence_map(node: Node) -> Operator:
    """A graph for each place of a sequence; tensors beside it go to every turn."""
    program, count = node.program("body"), node.captured

    def run(*inputs: list[Tensor] | Tensor) -> list[Tensor] | tuple[list[Tensor], ...]:
        free = captures(program, count, node, tuple(value for value in inputs[count:] if isinstance(value, Tensor)))
        columns: list[list[Tensor]] = [[] for _ in program.outputs]
        for turn in range(len(inputs[0])):
            fed = tuple(value[turn] if isinstance(value, list) else value for value in inputs[:count])
            for column, tensor in zip(columns, call(program, (*fed, *free), device_of(fed)), strict=True):
                column.append(tensor)
        return columns[0] if len(columns) == 1 else tuple(columns)

    return run  # type: ignore[return-value]  # sequences
