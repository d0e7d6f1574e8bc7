"""Edit a graph: unused names, removal of unused initializers."""

import onnx_ir as ir

__all__ = ["Names", "drop_unused_initializers"]


class Names:
    """The names of a graph's values and nodes; gives new ones that clash with none of them."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        for node in graph.all_nodes():
            self._taken.add(node.name)
            self._taken.update(value.name for value in node.outputs)

    def fresh(self, base: str) -> str:
        """``base``, or ``base_1``, ``base_2``... where that is taken; taken from now on."""
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove the initializers that nothing reads, also where they are listed as graph inputs."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
            for index in [i for i, listed in enumerate(graph.inputs) if listed is value]:
                del graph.inputs[index]
