"""Find the float weight that a quantized one was made from, and tell the file of another network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.query import constant_of, name_of, weighted_nodes
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.targets.catalog import find_target

__all__ = ["FloatWeight", "FloatWeights", "channel_factors", "deviations"]

EQUALIZED = 0.05
"""Median deviation of a channel's factor from which a weight counts as equalized; 4 bits cause 0.004 at most."""

ALIKE = 0.5
"""Mean cosine of the output channels of two weights from which one may be made from the other. Files of this package at
4 to 8 bits have 0.93 or more, equalized or not."""

ALIVE = 1e-3
"""Power of a channel, relative to the mean of all, below which rounding leaves nothing of it."""

FEWEST_VALUES = 32
"""A smaller weight may be like another one by chance."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FloatWeight:
    """The weight that a pair was quantized from.

    Args:
        values: float32, of the shape of the pair.
        node: the weighted node of the float model; None if the quantized file holds the values itself.
    """

    values: Floats
    node: ir.Node | None = None


@dataclass(frozen=True, eq=False)
class FloatWeights:
    """The weights of a float model: as they are, with BatchNormalization folded, and as exporters rewrite them.

    Args:
        model: as :func:`dfq_deploy.graph.loading.load` reads it.
    """

    model: ir.Model

    @cached_property
    def folded(self) -> ir.Model:
        """The model with BatchNormalization folded."""
        copy = self.model.clone()
        fold_batch_normalization(copy)
        return copy

    @cached_property
    def lowered(self) -> ir.Model:
        """The folded model in the operators that the CPU has integer kernels for."""
        copy = self.folded.clone()
        lower(copy, find_target("cpu"))
        return copy

    @cached_property
    def _candidates(self) -> tuple[Mapping[str, ir.Node], ...]:
        return tuple(_by_node(model) for model in (self.lowered, self.folded, self.model))

    def nodes(self, node: ir.Node) -> list[ir.Node]:
        """The node of the same name, or that writes the same tensor, in each form of the model."""
        names = str(node.name), name_of(node.outputs[0]), str(node.name).removesuffix("_MatMul")
        found = [next((nodes[name] for name in names if name in nodes), None) for nodes in self._candidates]
        return [entry for entry in found if entry is not None]

    def closest(self, pair: WeightPair) -> FloatWeight | None:
        """The float weight of the same node, in whichever form of the model is closer."""
        found: list[FloatWeight] = []
        for node in self.nodes(pair.node):
            constant = constant_of(node.inputs[pair.place]) if len(node.inputs) > pair.place else None
            values = None if constant is None else constant.numpy().astype(np.float32)
            if values is not None and node.attributes.get_int("transB", 0) != pair.node.attributes.get_int("transB", 0):
                values = values.T  # a Gemm of the float model became a MatMul
            if values is not None and values.shape == pair.values.shape:
                found.append(FloatWeight(values, node))
        closest = min(found, key=lambda entry: _deviation(entry.values, pair), default=None)
        # Equalized channels are like none of both: BatchNormalization is folded before they are scaled.
        return found[0] if closest is not None and _deviation(closest.values, pair) > EQUALIZED else closest

    def unlike(self, pairs: Sequence[WeightPair]) -> tuple[int, int]:
        """How many of the weights are like none of the float model, and how many were compared."""
        found = [likeness for pair in pairs if (likeness := self.likeness(pair)) is not None]
        return sum(likeness < ALIKE for likeness in found), len(found)

    def likeness(self, pair: WeightPair) -> float | None:
        """Mean cosine of the output channels of a weight and the most similar float one of that shape, 0 to 1.

        None where the file says nothing: no weight of that shape and no node of that name, or it is small.
        """
        if pair.exact is not None or pair.values.size < FEWEST_VALUES:
            return None
        exact = [entry.values for entry in [self.closest(pair)] if entry is not None] or [
            array for array in self._arrays if array.shape == pair.values.shape
        ]
        if not exact:
            return 0.0 if self.nodes(pair.node) else None
        return max(_likeness(array, pair) for array in exact)

    @cached_property
    def _arrays(self) -> list[Floats]:
        constants = [
            constant_of(node.inputs[1]) for model in (self.lowered, self.model) for node in weighted_nodes(model)
        ]
        return [constant.numpy().astype(np.float32) for constant in constants if constant is not None]


def channel_factors(exact: Floats, pair: WeightPair) -> Floats:
    """How many times larger each output channel of ``pair`` is than in ``exact``."""
    rows, others = _channels(exact, pair)
    return np.asarray((rows * others).sum(axis=1) / np.maximum(np.square(rows).sum(axis=1), 1e-30))


def deviations(factors: Floats) -> Floats:
    """Relative deviation of each channel's factor from the median."""
    usual = float(np.median(factors))
    return np.abs(factors / usual - 1) if usual > 0 else np.full(factors.shape, np.inf)


def _deviation(exact: Floats, pair: WeightPair) -> float:
    """Median relative deviation of a channel's factor between ``exact`` and ``pair`` from that of most channels."""
    return float(np.median(deviations(channel_factors(exact, pair))))


def _likeness(exact: Floats, pair: WeightPair) -> float:
    rows, others = _channels(exact, pair)
    powers = np.square(rows).sum(axis=1)
    alive = powers > ALIVE * powers.mean()
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return abs(float(((rows * others).sum(axis=1) / np.maximum(norms, 1e-30))[alive].mean())) if alive.any() else 1.0


def _channels(exact: Floats, pair: WeightPair) -> tuple[Floats, Floats]:
    """Both weights as rows (output channels, values)."""
    first, second = (
        np.moveaxis(array, pair.axis, 0).reshape(array.shape[pair.axis], -1).astype(np.float64)
        for array in (exact, pair.values)
    )
    return first, second


def _by_node(model: ir.Model) -> dict[str, ir.Node]:
    """Nodes by their own name and by what they write."""
    named = {str(node.name): node for node in model.graph if node.name}
    return {**{name_of(node.outputs[0]): node for node in model.graph}, **named}
