"""BatchNormalization, LayerNormalization, InstanceNormalization."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..orders import Order, natural
from ..registry import operator
from ..step import Step
from ..tensors import Tensor

__all__ = ["batch_normalization", "instance_normalization", "layer_normalization"]

Array = NDArray[Any]


@operator("BatchNormalization", fuses=True)
def batch_normalization(step: Step) -> None:
    """MUL and ADD; one that follows a convolution was folded into it before."""
    scale, shift, mean, variance = (step.required(index, "parameters").astype(np.float64) for index in range(1, 5))
    factor = scale / np.sqrt(variance + step.number("epsilon", 1e-5))
    entry = step.input(0)
    shape = [len(factor) if axis == 1 else 1 for axis in entry.order]
    parts = [
        step.writer.constant(f"{step.node.name}_{name}", values.astype(np.float32).reshape(shape))
        for name, values in (("factor", factor), ("shift", shift - mean * factor))
    ]
    product = step.temporary(entry.tensor.shape)
    step.writer.emit("MUL", [entry.tensor, parts[0]], product, "MulOptions")
    step.write("ADD", [product, parts[1]], entry.order, "AddOptions")


@operator("LayerNormalization")
def layer_normalization(step: Step) -> None:
    """Mean, squared difference, reciprocal root: over the last axes of the graph."""
    rank = len(step.shape)
    first = step.integer("axis", -1) % rank
    order = step.input(0).order
    scaled = _normalized(step, order, range(first, rank))
    parameters = [(step.constant(index), index) for index in (1, 2)]
    _scaled(step, scaled, order, [None if values is None else _expanded(values, rank) for values, _ in parameters])


@operator("InstanceNormalization")
def instance_normalization(step: Step) -> None:
    """As LayerNormalization, over the spatial axes, with a factor for each channel."""
    rank = len(step.shape)
    order = step.input(0).order
    shape = [-1 if axis == 1 else 1 for axis in natural(rank)]
    parameters = [step.required(index, "parameters").reshape(shape) for index in (1, 2)]
    _scaled(step, _normalized(step, order, range(2, rank)), order, list(parameters))


def _expanded(values: Array, rank: int) -> Array:
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def _normalized(step: Step, order: Order, axes: range) -> Tensor:
    writer, source = step.writer, step.input(0, order).tensor
    places = writer.numbers("axes", sorted(order.index(axis) for axis in axes))
    kept = {"keepDims": True}
    reduced = [1 if order[place] in axes else size for place, size in enumerate(source.shape)]
    mean, variance, shifted, root = (step.temporary(reduced) for _ in range(4))
    centred, squares, result = (step.temporary(source.shape) for _ in range(3))
    writer.emit("MEAN", [source, places], mean, "ReducerOptions", kept)
    writer.emit("SUB", [source, mean], centred, "SubOptions")
    writer.emit("MUL", [centred, centred], squares, "MulOptions")
    writer.emit("MEAN", [squares, places], variance, "ReducerOptions", kept)
    epsilon = writer.constant("epsilon", np.full((1,) * len(order), step.number("epsilon", 1e-5), np.float32))
    writer.emit("ADD", [variance, epsilon], shifted, "AddOptions")
    writer.emit("RSQRT", [shifted], root)
    writer.emit("MUL", [centred, root], result, "MulOptions")
    return result


def _scaled(step: Step, source: Tensor, order: Order, parameters: list[Array | None]) -> None:
    scale, shift = (
        None
        if values is None
        else step.writer.constant(f"{step.node.name}_{name}", np.ascontiguousarray(values.transpose(order)))
        for name, values in zip(("scale", "shift"), parameters, strict=True)
    )
    if scale is None or shift is None:
        neutral = step.writer.constant("one", np.ones(1, np.float32)) if scale is None else scale
        step.write("MUL", [source, neutral], order, "MulOptions")
        return
    product = step.temporary(source.shape)
    step.writer.emit("MUL", [source, scale], product, "MulOptions")
    step.write("ADD", [product, shift], order, "AddOptions")
