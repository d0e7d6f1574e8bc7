"""Edit a graph: unused names, new constants, axes of a mean, removal of unused initializers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["Names", "add_constant", "drop_unused_initializers", "mean_axes", "replace_by_constant"]

AXES_AS_INPUT = 18
"""The opset from which on ReduceMean reads its axes."""


class Names:
    """The names of a graph's values and nodes; creates new unique names."""

    def __init__(self, graph: ir.Graph) -> None:
        self._used = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        for node in graph.all_nodes():
            self._used.add(node.name)
            self._used.update(value.name for value in node.outputs)

    def fresh(self, base: str) -> str:
        """Return ``base``, or ``base_1``, ``base_2``... if it is in use, and mark it as used."""
        name, count = base, 0
        while name in self._used:
            count += 1
            name = f"{base}_{count}"
        self._used.add(name)
        return name


def add_constant(graph: ir.Graph, name: str, values: NDArray[Any] | ir.TensorProtocol) -> ir.Value:
    """Add an initializer to ``graph`` and return it.

    Args:
        name: a name that the graph does not use yet (:class:`Names`).
        values: an array, or a tensor of a type that NumPy does not support.
    """
    tensor = ir.tensor(values, name=name) if isinstance(values, np.ndarray) else values
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def mean_axes(graph: ir.Graph, names: Names, axes: Sequence[int]) -> tuple[list[ir.Value], dict[str, Sequence[int]]]:
    """What a ReduceMean over ``axes`` takes at the graph's opset: inputs behind the first, and attributes."""
    if graph.opset_imports[""] >= AXES_AS_INPUT:
        return [add_constant(graph, names.fresh("dfq_axes"), np.array(axes, np.int64))], {}
    return [], {"axes": axes}


def replace_by_constant(graph: ir.Graph, value: ir.Value, values: NDArray[Any]) -> None:
    """Replace the computed ``value`` by an initializer of the same name, for all its consumers."""
    name, value.name = str(value.name), None
    value.replace_all_uses_with(add_constant(graph, name, values))


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove initializers without consumers, also from the graph inputs."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
            for index in [i for i, listed in enumerate(graph.inputs) if listed is value]:
                del graph.inputs[index]
