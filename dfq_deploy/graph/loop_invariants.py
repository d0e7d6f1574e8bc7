"""Take what no iteration changes out of the variables of a Loop: bodies then read it from outside."""

import onnx_ir as ir

from dfq_deploy.graph.operators import is_op

__all__ = ["free_invariants"]

BEFORE = 2
"""Inputs of a Loop and of its body before the variables; a body has one output before them."""


def free_invariants(model: ir.Model) -> tuple[str, ...]:
    """Remove, in place, the variables that the body of a Loop returns as it got them.

    Keras writes an LSTM as a Loop with the weights among its variables: no layer in the body has a constant weight, and
    none can be quantized. Nodes in the body read the value outside instead, and so does what reads the last value
    of the variable. A variable whose last value is an output of its graph, or that is
    an output of the body twice, stays.

    Returns:
        names of the values that bodies read from outside now.
    """
    return tuple(name for node in list(model.graph.all_nodes()) if is_op(node, "Loop") for name in _freed(node))


def _freed(loop: ir.Node) -> list[str]:
    body = loop.attributes["body"].as_graph()
    freed: list[str] = []
    for place in reversed(range(len(loop.inputs) - BEFORE)):
        outside, inside, result = loop.inputs[BEFORE + place], body.inputs[BEFORE + place], loop.outputs[place]
        others = [output for index, output in enumerate(body.outputs) if index != 1 + place]
        changes = _source(body.outputs[1 + place]) is not inside
        if outside is None or changes or result.is_graph_output() or any(output is inside for output in others):
            continue
        body.outputs.pop(1 + place)
        for value in (inside, result):
            for use in tuple(value.uses()):
                use.node.replace_input_with(use.idx, outside)
        body.inputs.pop(BEFORE + place)
        loop = _without(loop, place)
        freed.append(str(outside.name))
    return freed[::-1]


def _source(value: ir.Value) -> ir.Value:
    """What an Identity, or several, copies."""
    while (node := value.producer()) is not None and is_op(node, "Identity") and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _without(loop: ir.Node, place: int) -> ir.Node:
    """The Loop without a variable, in its place in the graph; the values that it writes stay the same."""
    inputs = [value for index, value in enumerate(loop.inputs) if index != BEFORE + place]
    outputs = [value for index, value in enumerate(loop.outputs) if index != place]
    graph = loop.graph
    assert graph is not None
    made = ir.Node(
        loop.domain, loop.op_type, inputs, loop.attributes.values(), num_outputs=len(outputs), name=loop.name,
        metadata_props=loop.metadata_props,
    )  # fmt: skip
    graph.insert_before(loop, made)
    for old, new in zip(outputs, made.outputs, strict=True):
        new.name, new.type, new.shape = old.name, old.type, old.shape
        for use in tuple(old.uses()):
            use.node.replace_input_with(use.idx, new)
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
    graph.remove(loop, safe=False)
    return made
