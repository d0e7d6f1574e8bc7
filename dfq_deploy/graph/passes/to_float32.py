"""Compute float16, bfloat16 and double models in float32."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names

__all__ = ["to_float32"]

NARROW = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

FEEDABLE = frozenset({ir.DataType.FLOAT16, ir.DataType.DOUBLE})
"""What NumPy can feed: a bfloat16 input becomes a float32 one."""

TYPED = ("to", "dtype", "output_dtype", "stash_type")
"""Attributes that name an element type."""


def to_float32(model: ir.Model) -> tuple[str, ...]:
    """Turn, in place, every float16, bfloat16 and double of ``model`` into float32.

    Rules: (1) initializers and constant attributes are converted; (2) attributes that name such a type name float32;
    (3) an input of such a type is read through a Cast, an output written through one, so that callers see no change;
    bfloat16 inputs and outputs, which NumPy has no type for, become float32.

    A float32 model that computes some tensors in another width between two Casts is left as it is.

    Returns:
        the types that were found, in words; empty where the model had none of them.
    """
    stored = (v for graph in model.graphs() for v in graph.initializers.values())
    weights = (value for value in stored if value.const_value is not None and value.const_value.size > 1)
    values = [*model.graph.inputs, *weights]
    kinds = {value.dtype for value in values}
    found = sorted(kind.name.lower() for kind in kinds if kind is not None and kind in NARROW)
    if not found:
        return ()
    names = Names(model.graph)
    outside = [(value, value.dtype) for value in model.graph.outputs]
    for graph in model.graphs():
        for value in _values(graph):
            _retype(value)
        for node in graph:
            _retype_attributes(node)
    for value in list(model.graph.inputs):
        _read_through_cast(model.graph, value, names)
    for value, dtype in outside:
        _write_through_cast(model.graph, value, dtype, names)
    return tuple(found)


def _values(graph: ir.Graph) -> list[ir.Value]:
    fed = set(graph.inputs)
    made = [value for node in graph for value in node.outputs]
    return [*(value for value in graph.initializers.values()), *made, *(v for v in graph.outputs if v not in fed)]


def _retype(value: ir.Value) -> None:
    if value.dtype in NARROW:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    if value.const_value is not None and value.const_value.dtype in NARROW:
        value.const_value = _widened(value.const_value, value.name)


def _widened(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=name)


def _retype_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in NARROW:
            node.attributes[name] = ir.AttrTensor(name, _widened(attribute.as_tensor(), name))
        elif attribute.type == ir.AttributeType.INT and name in TYPED and attribute.as_int() in set(NARROW):
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _read_through_cast(graph: ir.Graph, value: ir.Value, names: Names) -> None:
    if value.dtype not in NARROW or value.is_initializer():
        _retype(value)
        return
    if value.dtype not in FEEDABLE:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        return
    node = _cast(value, ir.DataType.FLOAT, names)
    value.replace_all_uses_with(node.outputs[0])
    node.replace_input_with(0, value)
    graph.insert_before(next(iter(graph)), [node])


def _write_through_cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType | None, names: Names) -> None:
    producer = value.producer()
    if dtype not in FEEDABLE or producer is None or value.dtype != ir.DataType.FLOAT:
        return
    name, value.name = value.name, names.fresh(f"{value.name}_float32")
    node = _cast(value, dtype, names)
    node.outputs[0].name = name
    for index in [i for i, listed in enumerate(graph.outputs) if listed is value]:
        graph.outputs[index] = node.outputs[0]
    graph.insert_after(producer, [node])


def _cast(value: ir.Value, dtype: ir.DataType, names: Names) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=names.fresh(f"{value.name}_Cast"))
    output = node.outputs[0]
    output.name = names.fresh(f"{value.name}_as_{dtype.name.lower()}")
    output.shape, output.type = value.shape, ir.TensorType(dtype)
    return node
