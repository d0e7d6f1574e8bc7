"""Tables of a Gather as integers, of which only the rows that are looked up are dequantized."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.tables import is_marked

__all__ = ["share_tables", "write_tables"]


def write_tables(graph: ir.Graph, encodings: Mapping[str, Encoding], names: Names) -> list[ir.Value]:
    """Write, in place, each Gather that is marked (:func:`dfq_deploy.quantization.tables.mark_lookups`) for integers.

    Its rows are multiplied by the scales of their columns, or by one scale: a DequantizeLinear with a scale for each
    column takes several times as long (ONNX Runtime 1.31). With a scale for each row of the table (tied to a layer that
    has one for each output), the scales are looked up too.

    Returns:
        the tables of integers.
    """
    stored: dict[str, ir.Value] = {}
    for node in list(graph.all_nodes()):
        value = node.inputs[0] if is_marked(node) else None
        if value is None or name_of(value) not in encodings:
            continue
        encoding, name = encodings[name_of(value)], name_of(value)
        if name not in stored:
            integers = encoding.quantize(constant_of(value).numpy()).astype(np.int8)  # type: ignore[union-attr]
            stored[name] = add_constant(graph, names.fresh(f"{name}_quantized"), integers)
        _write(graph, node, stored[name], encoding, names)
    return list(stored.values())


def share_tables(graph: ir.Graph, tables: list[ir.Value], names: Names) -> None:
    """Let layers that are tied to a table read its integers, in place: as they are, or through a Transpose.

    ONNX Runtime computes that Transpose once, when it loads the file.
    """
    for table in tables:
        own = constant_of(table)
        for value in list(graph.initializers.values()):
            other = constant_of(value)
            if own is None or other is None or value is table or other.dtype != own.dtype or len(other.shape) != 2:
                continue
            if list(other.shape) == list(own.shape) and np.array_equal(other.numpy(), own.numpy()):
                value.replace_all_uses_with(table)
            elif list(other.shape) == list(own.shape)[::-1] and np.array_equal(other.numpy(), own.numpy().T):
                turned = ir.node("Transpose", [table], {"perm": [1, 0]}, name=names.fresh(f"{table.name}_Transpose"))
                output = turned.outputs[0]
                output.name, output.type = names.fresh(f"{table.name}_transposed"), ir.TensorType(ir.DataType.INT8)
                output.shape = value.shape
                graph.insert_before(next(iter(graph)), turned)
                value.replace_all_uses_with(output)


def _write(graph: ir.Graph, node: ir.Node, integers: ir.Value, encoding: Encoding, names: Names) -> None:
    rows, name = node.outputs[0], str(node.name)
    table = name_of(node.inputs[0])
    node.replace_input_with(0, integers)
    floats, label = rows.type, rows.name
    steps: list[ir.Node] = []
    if encoding.axis == 0:
        scales = add_constant(graph, names.fresh(f"{table}_scale"), encoding.scale[:, None])
        looked_up = ir.node("Gather", [scales, node.inputs[1]], name=names.fresh(f"{name}_scale"))
        steps, factors = [looked_up], looked_up.outputs[0]
    else:
        scales = add_constant(graph, names.fresh(f"{table}_scale"), np.asarray(encoding.scale))
        factors = scales
    cast = ir.node("Cast", [rows], {"to": int(ir.DataType.FLOAT)}, name=names.fresh(f"{name}_Cast"))
    steps += [cast, ir.node("Mul", [cast.outputs[0], factors], name=names.fresh(f"{name}_Mul"))]
    last = steps[-1].outputs[0]
    for step in steps:
        step.outputs[0].name = names.fresh(f"{step.name}_output")
        step.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    readers = [use for use in rows.uses() if use.node not in steps]
    assert node.graph is not None
    node.graph.insert_after(node, steps)
    for use in readers:
        use.node.replace_input_with(use.idx, last)
    outputs = node.graph.outputs
    for index in [index for index, listed in enumerate(outputs) if listed is rows]:
        outputs[index] = last
    last.type, last.shape = floats, rows.shape
    rows.type, rows.name = ir.TensorType(ir.DataType.INT8), names.fresh(f"{label}_quantized")
    last.name = label
