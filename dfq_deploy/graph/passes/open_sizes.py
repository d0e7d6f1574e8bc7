"""Remember the open shapes of a model whose sizes are closed to measure with, and give them back."""

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from dfq_deploy.graph.file_shapes import OPEN, file_shape
from dfq_deploy.graph.inputs import MADE_UP

__all__ = ["close_remembered", "has_open_sizes", "remember_shapes", "reopen", "restore_output_shapes"]


def remember_shapes(model: ir.Model) -> None:
    """Note the shape of every value of ``model``, once: what is noted already stays."""
    for value in _values(model):
        value.meta.setdefault(OPEN, None if value.shape is None else ir.Shape(list(value.shape)))


def has_open_sizes(model: ir.Model) -> bool:
    """True for a model that is closed to measure with, and not for good."""
    return any(OPEN in value.meta for value in model.graph.inputs)


def close_remembered(model: ir.Model, sizes: Mapping[str, int], first: int) -> None:
    """Close dimensions, in place, in what is remembered too.

    Args:
        sizes: name of a dimension -> its size.
        first: the first dimension of inputs that leave it open.
    """
    for value in _values(model):
        shape = file_shape(value) if OPEN in value.meta else None
        if shape is None:
            continue
        dims = [dim if isinstance(dim, int) or dim.value is None else sizes.get(dim.value, dim) for dim in shape]
        if value.is_graph_input() and dims and not isinstance(dims[0], int):
            dims[0] = first
        value.meta[OPEN] = ir.Shape(dims)


def reopen(model: ir.Model) -> None:
    """Give every value of ``model``, in place, the shape of the file; a rank that only closed sizes tell is kept."""
    for value in _values(model):
        if OPEN not in value.meta:
            continue
        shape = value.meta.pop(OPEN)
        if shape is None and value.shape is not None:
            shape = ir.Shape([None] * len(value.shape))
        value.shape = shape


def restore_output_shapes(model: ir.Model, declared: Sequence[ir.Shape | None], known: Mapping[str, int]) -> None:
    """Give dimensions of outputs that shape inference does not reach, in place, the sizes and names of the file.

    Args:
        declared: of each output, in order.
        known: name of a dimension -> its size, where it is closed.
    """
    for value, shape in zip(model.graph.outputs, declared, strict=True):
        if shape is None or (value.shape is not None and len(value.shape) != len(shape)):
            continue
        inferred = [None] * len(shape) if value.shape is None else list(value.shape)
        value.shape = ir.Shape([_restored(dim, own, known) for dim, own in zip(inferred, shape, strict=True)])


def _restored(
    inferred: int | ir.SymbolicDim | None, declared: int | ir.SymbolicDim, known: Mapping[str, int]
) -> int | ir.SymbolicDim:
    if isinstance(inferred, int) or (inferred is not None and inferred.value and not MADE_UP.fullmatch(inferred.value)):
        return inferred
    if isinstance(declared, int) or declared.value is None:
        return declared if inferred is None or isinstance(declared, int) else inferred
    return known.get(declared.value, declared)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from (value for node in model.graph.all_nodes() for value in node.outputs)
