"""Cut the graphs of a float model and of its quantized file at the tensors that both have."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from dfq_deploy.graph.operators import QDQ_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.qdq_reader import quantizer_of

__all__ = ["NamedGraph", "Part", "shared_parts"]

SILENT = QDQ_OPS | {
    *("Identity", "Cast", "Dropout", "BatchNormalization", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
}
"""Nodes that a quantized file may have or lack: they leave the values alone, or are folded."""


@dataclass(frozen=True, eq=False)
class Part:
    """The nodes of one graph between tensors that both files have.

    Args:
        nodes: those that count, from the last one back.
        inputs: names of the tensors that they read, as float has them.
    """

    nodes: tuple[ir.Node, ...]
    inputs: frozenset[str]


@dataclass(frozen=True, eq=False)
class NamedGraph:
    """A graph with its tensors by the names of the float model."""

    model: ir.Model

    @cached_property
    def computed(self) -> dict[str, ir.Value]:
        """All tensors that are fed or computed, in order."""
        values = [*self.model.graph.inputs, *(value for node in self.model.graph for value in node.outputs)]
        return {name_of(value): value for value in values}

    @cached_property
    def rounded(self) -> dict[str, ir.Value]:
        """Float tensor -> the tensor behind its Q and DQ."""
        found: dict[str, ir.Value] = {}
        for node in self.model.graph:
            quantizer = quantizer_of(node)
            if quantizer is not None and constant_of(quantizer.inputs[0]) is None:
                output = node.outputs[0]
                found.setdefault(name_of(output if output.is_graph_output() else quantizer.inputs[0]), output)
        return found

    @cached_property
    def _names(self) -> dict[str, str]:
        return {name_of(value): name for name, value in self.rounded.items()}

    def tensor(self, name: str) -> ir.Value | None:
        """The tensor that stands for the float one of that name, rounded where it is quantized."""
        return self.rounded.get(name, self.computed.get(name))

    def part(self, name: str, shared: Collection[str]) -> Part:
        """What computes a tensor from ``shared`` ones."""
        nodes: dict[ir.Node, None] = {}
        inputs = set()
        waiting = [self.tensor(name)]
        while waiting:
            value = waiting.pop()
            own = self._names.get(name_of(value), name_of(value))
            if value is None or constant_of(value) is not None:
                continue
            if own != name and own in shared:
                inputs.add(own)
                continue
            node = value.producer()
            if node is None or node in nodes:
                continue
            nodes[node] = None
            waiting += node.inputs
        return Part(tuple(node for node in nodes if not is_op(node, SILENT)), frozenset(inputs))


def shared_parts(first: NamedGraph, second: NamedGraph) -> dict[str, tuple[Part, Part]]:
    """What computes each tensor that both have, in both."""
    shared = [name for name in first.computed if second.tensor(name) is not None]
    known = frozenset(shared)
    return {name: (first.part(name, known), second.part(name, known)) for name in shared}
