"""Import an ONNX graph as a program of torch steps."""

from collections.abc import Iterator, Mapping, Set

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.errors import ModelError, UnsupportedOperators
from dfq_deploy.graph.operators import is_op
from dfq_deploy.twin.device import is_host
from dfq_deploy.twin.dtypes import DTYPES, tensor_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.program import Program, Step
from dfq_deploy.twin.registry import REGISTRY, Entry, Operator
from dfq_deploy.twin.unsigned import UNSIGNED, widened

__all__ = ["check_operators", "import_graph"]

FOLDED_SIZE = 4096
"""Maximum number of elements of an integer constant that is folded at import."""

Versions = Mapping[str, int]


def import_graph(
    graph: ir.Graph, versions: Versions, outer: Mapping[str, Tensor] | None = None, outer_host: Set[str] = frozenset()
) -> Program:
    """Import a graph whose operators are all registered.

    Args:
        versions: opset by domain.
        outer: constants of the graphs that contain this one.
        outer_host: tensors of the graphs that contain this one that are on the CPU.
    """
    return _Importer(graph, versions, outer or {}, outer_host).program()


def check_operators(graph: ir.Graph, versions: Versions) -> None:
    """Check that all operators of a graph are registered.

    Raises:
        UnsupportedOperators: lists all operators that are not, including those of nested graphs.
    """
    unsupported = []
    for index, node in enumerate(graph.all_nodes()):
        domain = _domain(node)
        version = versions.get(domain, 0)
        if node.op_type == "Constant" and not domain:
            continue
        if REGISTRY.find(domain, node.op_type, version) is None:
            operator = f"{domain or 'ai.onnx'}::{node.op_type}-{version}"
            unsupported.append((node.name or f"{node.op_type}_{index}", operator))
    if unsupported:
        raise UnsupportedOperators(unsupported)


class _Importer:
    """One pass over the nodes of one graph."""

    def __init__(self, graph: ir.Graph, versions: Versions, outer: Mapping[str, Tensor], outer_host: Set[str]) -> None:
        self.graph, self.versions = graph, versions
        self.constants = dict(outer)
        self.host = set(outer_host)
        self.outer_host = outer_host
        self.steps: list[Step] = []
        self.names: set[str] = set()

    def program(self) -> Program:
        for name, value in self.graph.initializers.items():
            if value.const_value is None:
                raise ModelError(f"initializer '{name}': its values are missing; keep the data file beside the model")
            self.constants[name] = tensor_of(value.const_value, f"initializer '{name}'")
        for index, node in enumerate(self.graph):
            if node.op_type == "Constant" and not _domain(node):
                self.constants[_name(node.outputs[0])] = _constant(node)
            else:
                self._add(node, index)
        inputs = tuple(_name(value) for value in self.graph.inputs if value.name not in self.graph.initializers)
        free = tuple(name for name in _captures(self.graph) if name not in self.constants)
        outputs = tuple(_name(value) for value in self.graph.outputs)
        needed = {name for step in self.steps for name in step.inputs} | set(outputs) | set(self.graph.initializers)
        constants = {name: value for name, value in self.constants.items() if name in needed}
        return Program(inputs + free, outputs, tuple(self.steps), constants, self.outer_host & set(free))

    def _add(self, node: ir.Node, index: int) -> None:
        domain = _domain(node)
        version = self.versions.get(domain, 0)
        entry = REGISTRY.find(domain, node.op_type, version)
        if entry is None:  # check_operators has refused such graphs
            raise UnsupportedOperators([(node.name or str(index), f"{domain}::{node.op_type}-{version}")])
        explicit = tuple(_name(value) for value in node.inputs)
        captured = _node_captures(node)
        view = Node(
            name=self._unique(node.name or f"{node.op_type}_{index}"),
            op_type=node.op_type,
            domain=domain,
            version=version,
            inputs=explicit + captured,
            outputs=tuple(_name(value) for value in node.outputs),
            captured=len(explicit),
            attributes=node.attributes,
            constants=self.constants,
            program_of=lambda graph: import_graph(graph, self.versions, self.constants, self.host),
        )
        operator = entry.builder(view)
        if any(value is not None and _torch_dtype(value) in UNSIGNED for value in node.inputs):
            operator = widened(operator, tuple(_torch_dtype(value) for value in node.outputs))
        self._append(view, entry, operator)

    def _append(self, view: Node, entry: Entry, operator: Operator) -> None:
        on_host = is_host(entry, view.inputs, self.host, self.constants)
        captured = {place for place in range(view.captured, len(view.inputs)) if view.inputs[place] in self.host}
        step = Step(
            name=view.name,
            op_type=view.op_type,
            domain=view.domain,
            version=view.version,
            inputs=view.inputs,
            outputs=view.outputs,
            operator=operator,
            host=frozenset(entry.arguments) | captured,
            on_host=on_host,
            strides=view.integers("strides") or (),
        )
        if on_host and self._fold(step):
            return
        self.steps.append(step)
        if on_host:
            self.host.update(name for name in step.outputs if name)

    def _fold(self, step: Step) -> bool:
        """Fold a step with integer constants as inputs; returns False if it cannot be folded."""
        values = [self.constants.get(name) for name in step.inputs]
        if not values or any(value is None for value in values) or is_op(step, {"Shape", "Size"}):
            return False
        if any(value is not None and value.is_floating_point() for value in values):
            return False
        with torch.no_grad():
            result = step.operator(*values)
        parts = result if isinstance(result, tuple) else (result,)
        if not all(_foldable(part) for part in parts):
            return False
        self.constants.update((name, part) for name, part in zip(step.outputs, parts, strict=False) if name)
        return True

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self.names:
            candidate, count = f"{name}_{count}", count + 1
        self.names.add(candidate)
        return candidate


def _foldable(part: object) -> bool:
    return isinstance(part, Tensor) and not part.is_floating_point() and part.numel() <= FOLDED_SIZE


def _domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _torch_dtype(value: ir.Value) -> torch.dtype | None:
    return None if value.dtype is None else DTYPES.get(value.dtype)


def _captures(graph: ir.Graph) -> tuple[str, ...]:
    """Names of the tensors that a graph uses but does not define, in order of use."""
    defined = {_name(value) for value in graph.inputs} | set(graph.initializers)
    free: dict[str, None] = {}
    for node in graph:
        for name in (*(_name(value) for value in node.inputs), *_node_captures(node)):
            if name and name not in defined:
                free[name] = None
        defined.update(_name(value) for value in node.outputs)
    free.update((_name(value), None) for value in graph.outputs if _name(value) not in defined)
    return tuple(free)


def _node_captures(node: ir.Node) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for graph in _nested(node) for name in _captures(graph)))


def _nested(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()


def _constant(node: ir.Node) -> Tensor:
    """The value of a Constant node."""
    place = f"Constant '{node.name or _name(node.outputs[0])}'"
    for name, attribute in node.attributes.items():
        if name == "value":
            return tensor_of(attribute.as_tensor(), place)
        if name in {"value_float", "value_floats"}:
            return torch.tensor(attribute.value, dtype=torch.float32)
        if name in {"value_int", "value_ints"}:
            return torch.tensor(attribute.value, dtype=torch.int64)
    raise ModelError(f"{place}: sparse and string constants are not supported; export the model with dense numbers")
