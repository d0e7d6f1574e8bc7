"""Means, sums and extremes over axes, and global poolings."""

from ..orders import axis_in, without_axes
from ..registry import operator
from ..step import Step

__all__ = ["axes_of", "reduce"]

CODES = {
    **{"ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN"},
    **{"ReduceProd": "REDUCE_PROD", "GlobalAveragePool": "MEAN", "GlobalMaxPool": "REDUCE_MAX"},
}


@operator("ReduceMean", "GlobalAveragePool", kind="kernel")
def mean(step: Step) -> None:
    """MEAN."""
    reduce(step)


@operator("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "GlobalMaxPool")
def reduce(step: Step) -> None:
    """SUM, REDUCE_MAX and their like, over axes as they lie."""
    entry = step.input(0)
    rank = len(entry.order)
    axes, kept = axes_of(step, rank)
    if not axes:
        step.store(entry.tensor, entry.order)
        return
    order = entry.order if kept else without_axes(entry.order, axes)
    places = step.writer.numbers("axes", sorted(axis_in(entry.order, axis) for axis in axes))
    code = CODES[step.node.op_type]
    step.write(code, [entry.tensor, places], order, "ReducerOptions", {"keepDims": kept})


def axes_of(step: Step, rank: int) -> tuple[list[int], bool]:
    """Return the axes that a node reduces, and whether they are kept with size 1."""
    if step.node.op_type.startswith("Global"):
        return list(range(2, rank)), True
    given = step.integers("axes")
    if not given and len(step.node.inputs) > 1 and step.node.inputs[1] is not None:
        given = [int(axis) for axis in step.required(1, "axes")]
    if not given and step.integer("noop_with_empty_axes", 0):
        return [], True
    return [axis % rank for axis in given] or list(range(rank)), bool(step.integer("keepdims", 1))
