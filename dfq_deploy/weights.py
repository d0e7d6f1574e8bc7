"""Encodings of weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph import constant_of
from dfq_deploy.placement import Placement

__all__ = ["Bounds", "encodings_of_weights", "extremes", "room_for_bias"]

Floats: TypeAlias = NDArray[np.floating[Any]]

Bounds: TypeAlias = Callable[[Floats, QuantType], tuple[Floats, Floats]]
"""Weights (channels, n) and their type -> the lower and the upper bound of each channel, shape (channels,)."""

LARGEST_BIAS = 2**30
"""Of an int32 bias: the other half of the accumulator is left to the products that it is added to."""


def extremes(weights: Floats, _: QuantType) -> tuple[Floats, Floats]:
    """Least and greatest value of each row of (channels, n): nothing is clipped."""
    return weights.min(axis=1), weights.max(axis=1)


def encodings_of_weights(
    model: ir.Model,
    placement: Placement,
    bounds: Bounds = extremes,
    activations: Mapping[str, Encoding] | None = None,
) -> dict[str, Encoding]:
    """The encoding of each weight that ``placement`` quantizes.

    Args:
        model: holds the weights.
        placement: names them, with their types and channel axes.
        bounds: what each channel is quantized for; all channels are one where the axis is None.
        activations: encodings of the activations; where given, scales are raised so that biases fit into int32.
    """
    found = {}
    for name, (qtype, axis) in placement.weights.items():
        weights = _constant(model, name)
        rows = (
            weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
        )
        low, high = bounds(rows, qtype)
        low, high = (low[0], high[0]) if axis is None else (low, high)
        encoding = Encoding.of_bounds(np.asarray(low), np.asarray(high), qtype, axis)
        found[name] = _without_empty_channels(encoding, rows)
    for bias, (activation, weight) in placement.biases.items():
        if activations is not None:
            found[weight] = room_for_bias(found[weight], _constant(model, bias), activations[activation])
    return found


def room_for_bias(weight: Encoding, bias: Floats, activation: Encoding) -> Encoding:
    """``weight`` with its scales raised where the int32 bias, of scale s_x * s_w, would overflow.

    That happens to channels that folding has all but switched off: weights of 1e-10 beside a bias of 1.
    """
    size = np.abs(bias.astype(np.float64)).reshape(-1)
    needed = size / (float(activation.scale) * LARGEST_BIAS)
    needed = needed.max(initial=0.0) if weight.axis is None else needed
    if np.all(needed <= weight.scale):
        return weight
    return replace(weight, scale=np.maximum(weight.scale, needed).astype(np.float32))


def _without_empty_channels(encoding: Encoding, rows: Floats) -> Encoding:
    """A channel of zeros takes the smallest scale of the others: its bias is stored in steps of that scale."""
    if encoding.axis is None:
        return encoding
    used = rows.any(axis=1)
    if used.all() or not used.any():
        return encoding
    return replace(encoding, scale=np.where(used, encoding.scale, encoding.scale[used].min()).astype(np.float32))


def _constant(model: ir.Model, name: str) -> Floats:
    tensor = constant_of(model.graph.initializers[name])
    if tensor is None:
        raise ValueError(f"initializer '{name}' holds no value")
    return tensor.numpy()
