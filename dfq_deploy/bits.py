"""Bit widths: ``w4a8`` and what it means for every tensor of a placement."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from dfq_deploy import graph
from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import TargetError
from dfq_deploy.feeding import known_tensors
from dfq_deploy.graph import constant_of
from dfq_deploy.placement import Placement

__all__ = ["Bits", "with_bits"]

WIDTHS = (2, 3, 4, 5, 6, 7, 8)

WIDE = (*WIDTHS, 16)
"""Activations may also have 16 bits."""


@dataclass(frozen=True)
class Bits:
    """Bit widths of all layers, the first and the last one included.

    The network's input has at least 8 bits (a camera delivers bytes), and its outputs stay as the target has them.

    Args:
        weights: 2 to 8.
        activations: 2 to 8, or 16.
        edge: width of the weights and of the inputs of the first and the last layer, where it is larger; None
            treats them like all others.
        layers: name of a weighted node -> its own widths (weights, activations), before all of these.
    """

    weights: int = 8
    activations: int = 8
    edge: int | None = None
    layers: Mapping[str, tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if self.weights not in WIDTHS:
            raise TargetError(f"bits: weights of {self.weights} bits are not to be had; choose 2 to 8")
        if self.activations not in WIDE:
            raise TargetError(f"bits: activations of {self.activations} bits are not to be had; choose 2 to 8, or 16")
        if self.edge is not None and self.edge not in WIDTHS:
            raise TargetError(f"bits: edge layers of {self.edge} bits are not to be had; choose 2 to 8")

    @classmethod
    def parse(cls, text: str, edge: int | None = None) -> "Bits":
        """Read ``w4a4``: the bits of weights and of activations.

        Raises:
            TargetError: it is no such text, or a width is not to be had.
        """
        found = re.fullmatch(r"w(\d+)a(\d+)", text.strip().lower())
        if found is None:
            raise TargetError(f"bits: '{text}' is not of the form w4a8 (bits of weights, bits of activations)")
        return cls(int(found[1]), int(found[2]), edge)

    def __str__(self) -> str:
        edge = "" if self.edge is None else f", first and last layer {self.edge}"
        mixed = f", {len(self.layers)} layers of their own" if self.layers else ""
        return f"w{self.weights}a{self.activations}{edge}{mixed}"

    def of_layer(self, node: ir.Node, edges: set[ir.Node]) -> tuple[int, int]:
        """Bits of the weight and of the input of one weighted node."""
        name = node.name or ""
        if self.layers and name in self.layers:
            return self.layers[name]
        raised = self.edge if self.edge is not None and node in edges else 0
        return max(self.weights, raised), max(self.activations, raised)


def with_bits(placement: Placement, model: ir.Model, bits: Bits) -> Placement:
    """``placement`` with the types of ``bits``: the target's signs and symmetries, other widths.

    Where layers of different widths read one tensor, or several tensors share one encoding, the largest rules.
    """
    weighted = [node for node in graph.weighted(model) if node.graph is model.graph]
    edges = _edges(weighted)
    weights: dict[str, int] = {}
    activations: dict[str, int] = {}
    for node in weighted:
        wide, deep = bits.of_layer(node, edges)
        for value in node.inputs[:2]:
            name = None if value is None else value.name
            if value is None or name is None:
                continue
            if constant_of(value) is not None and name in placement.weights:
                weights[name] = max(wide, weights.get(name, 0))
            elif name in placement.activations:
                activations[name] = max(deep, activations.get(name, 0))
    for name in known_tensors(model) & placement.activations.keys():
        activations[name] = max(8, bits.activations)
    for group in placement.shared:
        largest = max(activations.get(name, bits.activations) for name in group)
        activations.update(dict.fromkeys(group, largest))
    return replace(
        placement,
        activations={
            name: _resized(qtype, activations.get(name, bits.activations))
            for name, qtype in placement.activations.items()
        },
        weights={
            name: (_resized(qtype, weights.get(name, bits.weights)), axis)
            for name, (qtype, axis) in placement.weights.items()
        },
    )


def _resized(qtype: QuantType, bits: int) -> QuantType:
    return replace(qtype, bits=bits)


def _edges(weighted: list[ir.Node]) -> set[ir.Node]:
    """The weighted nodes that no other one stands before, or behind."""
    known = set(weighted)
    return {
        node for node in weighted if not _reached(node, known, forward=True) or not _reached(node, known, forward=False)
    }


def _reached(start: ir.Node, wanted: set[ir.Node], *, forward: bool) -> bool:
    seen: set[ir.Node] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        for near in node.successors() if forward else node.predecessors():
            if near in wanted:
                return True
            if near not in seen:
                seen.add(near)
                waiting.append(near)
    return False
