"""Ranges of the channels of each quantized weight, and the channels that are zero."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.query import constant_of, name_of, weight_axis

__all__ = ["WeightChannels", "weight_channels"]

DETAILED = 5
"""Weights of which every channel is listed: those whose channels differ most."""

MOST_CHANNELS = 4096
"""No weight with more channels is listed in detail."""

LISTED = 16
"""Channels of zeros that are named."""

FIGURES = 4
"""Significant figures of the ranges of single channels."""

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class WeightChannels:
    """The output channels of one quantized weight.

    Args:
        name: of the weight.
        node, operator: the first that reads it.
        channels: how many there are.
        scales: number of scales: one, or one for each channel.
        magnitudes: smallest, quartiles and largest of the largest magnitude of each channel that is not zero.
        dead: indices of the channels that are zero in float.
        vanished: indices of those that only rounding makes zero.
        low, high: smallest and largest value of each channel; empty but for the weights whose channels differ most.
    """

    name: str
    node: str
    operator: str
    channels: int
    scales: int
    magnitudes: tuple[float, ...]
    dead: tuple[int, ...]
    vanished: tuple[int, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def spread(self) -> float:
        """How many times larger the largest channel is than the one in the middle; 1 where all are zero."""
        return self.magnitudes[4] / self.magnitudes[2] if self.magnitudes[2] > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; of channels of zeros the first ones are named."""
        return {
            "name": self.name,
            "node": self.node,
            "operator": self.operator,
            "channels": self.channels,
            "scales": self.scales,
            "magnitudes": list(self.magnitudes),
            "spread": self.spread,
            "dead": len(self.dead),
            "dead_channels": list(self.dead[:LISTED]),
            "vanished": len(self.vanished),
            "vanished_channels": list(self.vanished[:LISTED]),
            **({"low": list(self.low), "high": list(self.high)} if self.low else {}),
        }


def weight_channels(
    model: ir.Model, encodings: Mapping[str, Encoding], weights: Collection[str]
) -> tuple[WeightChannels, ...]:
    """The quantized weights of a prepared model, in the graph's order.

    Args:
        model: with float weights under the names that ``encodings`` use.
        weights: names of the quantized weights.
    """
    found: dict[str, WeightChannels] = {}
    bounds: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for node in model.graph:
        for value in node.inputs:
            name, constant = name_of(value), constant_of(value)
            if constant is None or name not in weights or name not in encodings or name in found:
                continue
            rows = _channels(constant.numpy(), node, encodings[name])
            bounds[name] = rows.min(axis=1, initial=0.0), rows.max(axis=1, initial=0.0)
            found[name] = _entry(name, node, rows, encodings[name])
    widest = sorted(found.values(), key=lambda entry: -entry.spread)[:DETAILED]
    for entry in widest:
        if 1 < entry.channels <= MOST_CHANNELS:
            low, high = (tuple(float(f"{value:.{FIGURES}g}") for value in ends) for ends in bounds[entry.name])
            found[entry.name] = replace(entry, low=low, high=high)
    return tuple(found.values())


def _channels(weight: NDArray[Any], node: ir.Node, encoding: Encoding) -> NDArray[np.float32]:
    """Rows (channels, values)."""
    if weight.ndim < 2:
        return weight.astype(np.float32).reshape(1, -1)
    axis = encoding.axis if encoding.axis is not None else min(weight_axis(node), weight.ndim - 1)
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)


def _entry(name: str, node: ir.Node, rows: NDArray[np.float32], encoding: Encoding) -> WeightChannels:
    sizes = np.abs(rows).max(axis=1, initial=0.0)
    scale = encoding.scale.astype(np.float64).reshape(-1)
    small = sizes < scale / 2 if scale.size in (1, len(sizes)) and not encoding.qtype.floating else sizes <= 0
    alive = sizes[sizes > 0]
    quartiles = np.quantile(alive, QUARTILES) if alive.size else np.zeros(len(QUARTILES))
    return WeightChannels(
        name=name,
        node=str(node.name),
        operator=node.op_type,
        channels=len(rows),
        scales=int(scale.size),
        magnitudes=tuple(float(value) for value in quartiles),
        dead=tuple(np.flatnonzero(sizes == 0).tolist()),
        vanished=tuple(np.flatnonzero((sizes > 0) & small).tolist()),
    )
