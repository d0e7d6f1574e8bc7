"""Compute sizes at load time: copy them in Reshape, and make constants of static ones."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dfq_deploy.graph.editing import Names, add_constant, replace_by_constant
from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["copy_sizes", "fold_static_sizes"]

Size: TypeAlias = int | str | None
"""A size, the name of one, or None where it is unknown."""

ROUNDS = 4
"""In a transformer the second one makes constants of the shapes behind the attention."""

LONGEST = 16
"""More entries than a shape has."""

Known: TypeAlias = dict[ir.Value, "list[Size] | None"]

Rule: TypeAlias = Callable[[ir.Node, "list[list[Size]]"], "list[Size] | None"]

ARITHMETIC: Mapping[str, Callable[[int, int], Size]] = {
    "Add": lambda a, b: a + b,
    "Div": lambda a, b: int(a / b) if b else None,
    "Mul": lambda a, b: a * b,
    "Sub": lambda a, b: a - b,
}


def copy_sizes(model: ir.Model) -> tuple[str, ...]:
    """Give each Reshape of the main graph a constant shape, in place, where its sizes are those of its input.

    Exporters write Shape, Gather, Unsqueeze and Concat for each; in ONNX's own notation 0 copies a size, and one -1 is
    computed. Small networks spend much of their time on such nodes. What was open stays open. A shape that is constant
    tells more of the shapes behind it, so they are inferred anew, up to :data:`ROUNDS` times.

    Returns:
        names of the nodes that were rewritten.
    """
    rewritten: list[str] = []
    for _ in range(ROUNDS):
        found = _copied_here(model)
        rewritten += found
        if not found or all(constant_of(shape) is not None for _, shape in _reshapes(model)):
            break
        _infer_anew(model)
    return tuple(rewritten)


def _copied_here(model: ir.Model) -> list[str]:
    names, rewritten = Names(model.graph), []
    known: Known = {}
    for node, shape in _reshapes(model):
        source = None if node.inputs[0] is None else node.inputs[0].shape
        if source is None or constant_of(shape) is not None:
            continue
        if node.attributes.get_int("allowzero", 0) != 0:
            continue
        sizes = _entries(shape, known)
        wanted = None if sizes is None else _copied(sizes, [_size(dim) for dim in source])
        if wanted is not None:
            name = names.fresh(f"{node.name}_shape")
            node.replace_input_with(1, add_constant(model.graph, name, np.array(wanted, np.int64)))
            rewritten.append(str(node.name))
    if rewritten:
        RemoveUnusedNodesPass()(model)
    return rewritten


def _reshapes(model: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    """The Reshapes of the main graph with the shapes that they read."""
    nodes = [node for node in model.graph if is_op(node, "Reshape") and len(node.inputs) > 1]
    return [(node, shape) for node in nodes if (shape := node.inputs[1]) is not None]


def _infer_anew(model: ir.Model) -> None:
    """Infer the shapes with open sizes of the main graph again; what is not found again keeps its numbers alone."""
    values = [value for node in model.graph for value in node.outputs if not value.is_graph_output()]
    before = {value: value.shape for value in values if value.shape is not None and not value.shape.is_static()}
    for value in before:
        value.shape = None
    infer_shapes(model)
    for value, shape in before.items():
        if value.shape is None:  # the names in it may be others' now
            value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in shape])


def fold_static_sizes(model: ir.Model) -> tuple[str, ...]:
    """Replace, in place, each Gather or Slice of a Shape in the main graph that picks static dimensions alone.

    TorchScript asks so for sizes that the export knows, and an If decides by them: the depth of an LSTM's state, say.

    Returns:
        names of the outputs that are constants now.
    """
    known: Known = {}
    folded = []
    for node in list(model.graph):
        if not is_op(node, ("Gather", "Slice")) or node.outputs[0].is_graph_output():
            continue
        shape = node.inputs[0].producer() if node.inputs[0] is not None else None
        if shape is None or not is_op(shape, "Shape"):
            continue
        sizes = _entries(node.outputs[0], known)
        if sizes is None or not all(isinstance(size, int) for size in sizes):
            continue
        picked = None if is_op(node, "Slice") or node.inputs[1] is None else constant_of(node.inputs[1])
        dims = (len(sizes),) if picked is None else tuple(picked.shape.numpy())
        replace_by_constant(model.graph, node.outputs[0], np.array(sizes, np.int64).reshape(dims))
        folded.append(str(node.outputs[0].name))
        model.graph.remove(node, safe=True)
        if not shape.outputs[0].uses() and not shape.outputs[0].is_graph_output():
            model.graph.remove(shape, safe=True)
    return tuple(folded)


def _copied(sizes: list[Size], source: list[Size]) -> list[int] | None:
    """The entries of a constant shape; None where more than one size is neither a number nor copied."""
    wanted = []
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            wanted.append(size)
        else:
            same = size is not None and axis < len(source) and source[axis] == size
            wanted.append(0 if same else -1)
    return wanted if wanted.count(-1) <= 1 and all(size >= -1 for size in wanted) else None


def _size(dim: int | ir.SymbolicDim) -> Size:
    return dim if isinstance(dim, int) else size_name(dim) or None


def _entries(value: ir.Value | None, known: Known) -> list[Size] | None:
    """The entries of a tensor of integers, a single number as one entry; None where they are unknown."""
    if value is None:
        return None
    constant = constant_of(value)
    if constant is not None:
        integers = constant.dtype in (ir.DataType.INT64, ir.DataType.INT32) and constant.size <= LONGEST
        return [int(entry) for entry in constant.numpy().reshape(-1)] if integers else None
    if value not in known:
        known[value] = None  # no entry depends on itself
        node = value.producer()
        known[value] = None if node is None or len(node.outputs) != 1 else _computed(node, known)
    return known[value]


def _computed(node: ir.Node, known: Known) -> list[Size] | None:
    if is_op(node, "Shape"):
        shape = None if node.inputs[0] is None else node.inputs[0].shape
        ends = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end"))
        return None if shape is None else [_size(dim) for dim in shape][ends]
    rows = [_entries(value, known) for value in node.inputs]
    entries = [row for row in rows if row is not None]
    if len(entries) < len(rows) or not entries:
        return None
    function = next((rule for operator, rule in RULES.items() if is_op(node, operator)), None)
    return None if function is None else function(node, entries)


def _moved(node: ir.Node, entries: list[list[Size]]) -> list[Size] | None:
    """The same entries; a Cast to another type than an integer has none."""
    integers = (ir.DataType.INT64, ir.DataType.INT32)
    return entries[0] if node.attributes.get_int("to", ir.DataType.INT64) in integers else None


def _joined(_: ir.Node, entries: list[list[Size]]) -> list[Size] | None:
    return [entry for row in entries for entry in row]


def _gathered(_: ir.Node, entries: list[list[Size]]) -> list[Size] | None:
    sizes, indices = entries
    places = [index for index in indices if isinstance(index, int) and -len(sizes) <= index < len(sizes)]
    return [sizes[place] for place in places] if len(places) == len(indices) else None


def _sliced(_: ir.Node, entries: list[list[Size]]) -> list[Size] | None:
    bounds = [row[0] if len(row) == 1 else None for row in entries[1:]]
    first, last = bounds[:2]
    if not isinstance(first, int) or not isinstance(last, int) or tuple(bounds[2:]) not in ((), (0,), (0, 1)):
        return None
    return entries[0][first:last]


def _combined(node: ir.Node, entries: list[list[Size]]) -> list[Size] | None:
    if any(len(row) != 1 for row in entries):
        return None
    (first,), (second,) = entries
    known = isinstance(first, int) and isinstance(second, int)
    return [ARITHMETIC[node.op_type](first, second)] if known else [None]  # type: ignore[arg-type]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze"), _moved),
    **{"Concat": _joined, "Gather": _gathered, "Slice": _sliced},
    **dict.fromkeys(ARITHMETIC, _combined),
}
"""Operator -> the entries of its output, from those of its inputs."""
