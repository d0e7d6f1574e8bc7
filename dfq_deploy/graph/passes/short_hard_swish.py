"""Write hard swishes that exporters spread over four operators in two."""

import math

import onnx_ir as ir

from dfq_deploy.graph.editing import Names, drop_unused_initializers
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["shorten_hard_swishes"]


def shorten_hard_swishes(model: ir.Model) -> tuple[str, ...]:
    """Rewrite, in place, ``x clip(x + 3, 0, 6) / 6`` as ``x hard_sigmoid(x)`` with alpha 1/6 and beta 1/2.

    Paddle and older torch exporters write Add, Clip, Mul and Div, each a pass over the tensor where none is joined with
    a convolution. The division may stand before or behind the product, or be a Mul by 1/6.

    Returns:
        the names of the products that were rewritten.
    """
    names, done = Names(model.graph), []
    for node in list(model.graph):
        if is_op(node, "Mul") and _rewrite(model.graph, node, names):
            done.append(str(node.name))
    drop_unused_initializers(model.graph)
    return tuple(done)


def _rewrite(graph: ir.Graph, product: ir.Node, names: Names) -> bool:
    for source, gate in (product.inputs, tuple(product.inputs)[::-1]):
        chain = None if gate is None or gate is source else _gate(gate)
        if source is None or chain is None or chain[-1].inputs[_computed(chain[-1])] is not source:
            continue
        last = product
        if len(chain) == 2:  # the division stands behind
            readers = [use.node for use in product.outputs[0].uses()]
            if len(readers) != 1 or product.outputs[0].is_graph_output() or not _divides(readers[0]):
                continue
            last = readers[0]
        if last.graph is not graph or any(step.graph is not graph for step in chain):
            continue
        _replace(graph, product, source, [*chain, product], last, names)
        return True
    return False


def _gate(value: ir.Value) -> list[ir.Node] | None:
    """The nodes of ``clip(x + 3, 0, 6)``, or of that over 6, from the last to the first."""
    steps: list[ir.Node] = []
    node = value.producer()
    if node is not None and _divides(node):
        steps.append(node)
        node = node.inputs[_computed(node)].producer()  # type: ignore[union-attr]
    if node is None or not is_op(node, "Clip") or [_number(bound) for bound in node.inputs[1:3]] != [0.0, 6.0]:
        return None
    add = None if node.inputs[0] is None else node.inputs[0].producer()
    if add is None or not is_op(add, "Add") or _number(add.inputs[1 - _computed(add)]) != 3.0:
        return None
    steps += [node, add]
    inner = [step.outputs[0] for step in steps]
    alone = all(len(tuple(value.uses())) == 1 and not value.is_graph_output() for value in inner)
    return steps if alone else None


def _divides(node: ir.Node) -> bool:
    if not is_op(node, ("Mul", "Div")) or (is_op(node, "Div") and _computed(node) != 0):
        return False
    number = _number(node.inputs[1 - _computed(node)])
    return number is not None and math.isclose(number, 6.0 if is_op(node, "Div") else 1 / 6, rel_tol=1e-6)


def _computed(node: ir.Node) -> int:
    """The place of the input of a node of two that is no constant; the first where none is."""
    return 1 if constant_of(node.inputs[0]) is not None else 0


def _number(value: ir.Value | None) -> float | None:
    constant = constant_of(value)
    return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _replace(
    graph: ir.Graph, product: ir.Node, source: ir.Value, old: list[ir.Node], last: ir.Node, names: Names
) -> None:
    gate = ir.node("HardSigmoid", [source], {"alpha": 1 / 6, "beta": 0.5}, name=names.fresh(f"{product.name}_gate"))
    short = ir.node("Mul", [source, gate.outputs[0]], name=names.fresh(f"{product.name}_hard_swish"))
    gate.outputs[0].name = names.fresh(f"{gate.name}_output")
    written, gone = short.outputs[0], last.outputs[0]
    gate.outputs[0].type, gate.outputs[0].shape = source.type, source.shape
    written.type, written.shape, name = gone.type, gone.shape, gone.name
    graph.insert_before(last, [gate, short])
    gone.replace_all_uses_with(written, replace_graph_outputs=True)
    for node in dict.fromkeys([last, product, *(step for step in old if step is not product)]):
        graph.remove(node, safe=True)
    gone.name, written.name = None, name
