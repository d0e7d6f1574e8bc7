"""Put a batch of one before the inputs and outputs of a model that has none, and take it away again."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.inputs import NO_BATCH, InputShapes, input_values, main_input_value, shown_shape
from dfq_deploy.graph.missing_batch import values_without_batch

__all__ = ["add_batch_axis", "remove_batch_axis", "with_batch_of_one"]

ADDED = "dfq_deploy.batch_axis"
"""Key in ``metadata_props`` of the nodes that :func:`add_batch_axis` adds."""

Item = TypeVar("Item")


def add_batch_axis(model: ir.Model) -> list[str]:
    """Let the inputs and outputs of ``model``, in place, begin with a batch of 1 where it has no batch.

    Everything that makes samples, measures ranges and compares files takes the first axis for the batch. Inputs and
    outputs keep their names; what stood for them is called ``NAME_sample``.

    Returns:
        a sentence where it was done.
    """
    whole = values_without_batch(model)
    if not whole:
        return []
    main, graph, names = main_input_value(model), model.graph, Names(model.graph)
    shown = shown_shape(main)
    axis = add_constant(graph, names.fresh("batch_axis"), np.zeros(1, np.int64))
    for value in input_values(model):
        if value.name in whole:
            _add_to_input(graph, value, axis, names)
    for index, value in enumerate(graph.outputs):
        if value.name in whole:
            graph.outputs[index] = _add_to_output(graph, value, axis, names)
    return [
        f"input '{main.name}' {shown} has no batch: the model is measured on one sample at a time, and the quantized "
        "model takes the same shapes as the float model"
    ]


def with_batch_of_one(model: ir.Model, shapes: InputShapes) -> InputShapes:
    """``shapes`` of inputs as a caller states them, with the batch of :func:`add_batch_axis` where they lack it."""
    ranks = {str(value.name): len(value.shape) for value in input_values(model) if value.shape is not None}
    ranks[""] = next(iter(ranks.values()), 0)

    def whole(name: str, shape: Sequence[int]) -> Sequence[int]:
        return (1, *shape) if len(shape) + 1 == ranks.get(name) else shape

    return {name: whole(name, shape) for name, shape in shapes.items()}


def _add_to_input(graph: ir.Graph, value: ir.Value, axis: ir.Value, names: Names) -> None:
    squeeze = _node("Squeeze", value, axis, names)
    sample = squeeze.outputs[0]
    sample.name, sample.type, sample.shape = names.fresh(f"{value.name}_sample"), value.type, value.shape
    value.replace_all_uses_with(sample, replace_graph_outputs=False)
    squeeze.replace_input_with(0, value)
    if value.shape is not None:
        value.shape = ir.Shape([1, *value.shape])
    first = next(iter(graph), None)
    if first is None:
        graph.append(squeeze)
    else:
        graph.insert_before(first, squeeze)


def _add_to_output(graph: ir.Graph, value: ir.Value, axis: ir.Value, names: Names) -> ir.Value:
    unsqueeze = _node("Unsqueeze", value, axis, names)
    output = unsqueeze.outputs[0]
    output.name, output.type = value.name, value.type
    output.shape = None if value.shape is None else ir.Shape([1, *value.shape])
    value.name = names.fresh(f"{output.name}_sample")
    graph.append(unsqueeze)
    return output


def _node(operator: str, value: ir.Value, axis: ir.Value, names: Names) -> ir.Node:
    node = ir.node(operator, [value, axis], name=names.fresh(f"{value.name}_{operator}"))
    node.metadata_props[ADDED] = "1"
    return node


def remove_batch_axis(model: ir.Model, entries: Mapping[str, Item]) -> tuple[ir.Model, Mapping[str, Item]]:
    """``model`` as its file has it, with what is known of its tensors by their names there; itself if it has a batch.

    The metadata says which inputs and outputs have no batch (:data:`dfq_deploy.graph.inputs.NO_BATCH`).

    Args:
        entries: tensor name -> encoding or the like.
    """
    if not any(ADDED in node.metadata_props for node in model.graph):
        return model, entries
    copy, renamed = model.clone(), dict(entries)
    removed: list[str] = []
    for node in [node for node in copy.graph if ADDED in node.metadata_props]:
        read, written = node.inputs[0], node.outputs[0]
        if read is None:
            continue
        outer, inner = (read, written) if read.is_graph_input() else (written, read)
        name = str(outer.name)
        known = renamed.pop(str(inner.name), None)
        renamed.pop(name, None) if known is None else renamed.update({name: known})
        if outer is read:
            outer.shape = inner.shape
        inner.name = None
        written.replace_all_uses_with(read, replace_graph_outputs=True)
        copy.graph.remove(node, safe=True)
        written.name, read.name = None, name
        removed.append(name)
    drop_unused_initializers(copy.graph)
    copy.metadata_props[NO_BATCH] = "\n".join(removed)
    return copy, renamed
