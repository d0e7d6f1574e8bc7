"""Gathers and scatters by many-dimensional indices."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.indexing import wrapped
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@register("Scatter", since=9)
@register("ScatterElements", since=11)
def scatter_elements(node: Node) -> Operator:
    """One update for each index, along one axis."""
    axis, reduction = node.integer("axis"), REDUCTIONS.get(node.text("reduction", "none"))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = wrapped(indices, x.shape[axis]).long()
        if reduction is None:
            return x.scatter(axis, places, updates.to(x.dtype))
        return x.scatter_reduce(axis, places, updates.to(x.dtype), reduction)

    return run


def _flat_places(indices: Tensor, sizes: torch.Size) -> Tensor:
    """Rows of coordinates as places in the flattened leading axes."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for position, size in enumerate(sizes):
        flat = flat * size + wrapped(indices[..., position], size)
    return flat


@register("GatherND", since=11)
def gather_nd(node: Node) -> Operator:
    """Slices at rows of coordinates; the first ``batch_dims`` axes go together."""
    batch = node.integer("batch_dims")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        head = x.shape[:batch]
        rows = x.reshape(-1, *x.shape[batch:])
        places = indices.reshape(-1, *indices.shape[batch:])
        flat = _flat_places(places, x.shape[batch : batch + depth])
        each = rows.flatten(1, depth) if depth > 1 else rows
        number = torch.arange(rows.shape[0], device=x.device).reshape(-1, *[1] * (flat.dim() - 1))
        picked = each[number, flat]
        return picked.reshape(head + indices.shape[batch:-1] + x.shape[batch + depth :])

    return run


@register("ScatterND", since=11)
def scatter_nd(node: Node) -> Operator:
    """Slices written, or reduced into, at rows of coordinates."""
    reduction = REDUCTIONS.get(node.text("reduction", "none"))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        places = _flat_places(indices, x.shape[:depth]).reshape(-1)
        rows = x.reshape(-1, *x.shape[depth:])
        written = updates.to(x.dtype).reshape(-1, *x.shape[depth:])
        if reduction is None:
            return rows.index_put((places,), written).reshape(x.shape)
        spread = places.reshape(-1, *[1] * (rows.dim() - 1)).expand(written.shape)
        return rows.scatter_reduce(0, spread, written, reduction).reshape(x.shape)

    return run


@register("Compress", since=9)
def compress(node: Node) -> Operator:
    """The elements whose condition is true."""
    axis = node.attributes.get("axis")
    dim = None if axis is None else axis.as_int()

    def run(x: Tensor, condition: Tensor) -> Tensor:
        places = condition.nonzero().reshape(-1)
        return x.reshape(-1)[places] if dim is None else x.index_select(dim, places)

    return run


@register("ReverseSequence", since=10)
def reverse_sequence(node: Node) -> Operator:
    """The first elements of each sequence in reverse order."""
    batch, time = node.integer("batch_axis", 1), node.integer("time_axis")

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        ordered = x.movedim((batch, time), (0, 1))
        steps = torch.arange(ordered.shape[1], device=x.device)
        ends = lengths.reshape(-1, 1)
        places = torch.where(steps < ends, ends - 1 - steps, steps)
        rows = torch.arange(ordered.shape[0], device=x.device).reshape(-1, 1)
        return ordered[rows, places].movedim((0, 1), (batch, time))

    return run
