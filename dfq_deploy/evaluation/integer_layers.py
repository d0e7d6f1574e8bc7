"""Rewrite layers that compute on integers as float layers between Q and DQ, to be checked alike.

The operators are those of ONNX and of ONNX Runtime: ``QLinearConv``, ``QLinearMatMul``, ``QGemm`` and the like have all
scales as inputs; behind ``MatMulInteger`` and ``ConvInteger`` a Mul holds them, and their activations are quantized at
run time: these become floats. What only moves or compares values (MaxPool, Flatten and the like) reads integers between
such layers, and floats here.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_integer_op, is_op
from dfq_deploy.graph.query import constant_of, name_of

__all__ = ["FOLLOWING", "with_float_layers"]

FOLLOWING = "dfq_deploy.following_scale"
"""Key in the ``meta`` of a dequantized bias whose scale is no constant of the file, but follows from others."""

ELEMENTWISE = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
"""Operators of two activations -> the float ones."""

ALONE = {
    **{
        "QLinearAveragePool": "AveragePool",
        "QLinearGlobalAveragePool": "GlobalAveragePool",
        "QLinearSoftmax": "Softmax",
    },
    **{"QLinearLeakyRelu": "LeakyRelu", "QLinearSigmoid": "Sigmoid"},
}
"""Operators of one activation -> the float ones."""

MOVING = frozenset({"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity"})
"""Operators that do the same to integers as to what these stand for."""

OWN_ATTRIBUTES = frozenset({"channels_last", "opset"})
"""Attributes that the float operators do not have."""

ENDINGS = ("_quantized", "_quant", "_MatMulInteger", "_nchwc")
"""What quantizers append to the names of nodes and tensors."""


def with_float_layers(model: ir.Model) -> ir.Model:
    """A copy in which each such layer is a float one, with DQ before it and Q behind it; the model itself without any.

    Nodes and tensors get the names that they have in the float model, as far as their own tell.

    Args:
        model: as :func:`dfq_deploy.graph.loading.load_quantized` reads it.
    """
    if not any(is_integer_op(node) for node in model.graph):
        return model
    copy = model.clone()
    writer = _Writer(copy)
    for node in list(copy.graph):
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is not None and is_integer_op(node):
            rewrite(writer, node)
        elif is_op(node, MOVING):
            _moving(writer, node)
    return copy


class _Writer:
    """Adds nodes to the graph of a model."""

    def __init__(self, model: ir.Model) -> None:
        self.graph, self.names = model.graph, Names(model.graph)

    def dequantized(self, before: ir.Node, parts: Sequence[ir.Value | None], axis: int = 1) -> ir.Value:
        """Behind a new DequantizeLinear of integers, scale and zero point."""
        inputs = [part for part in parts if part is not None]
        node = self._add(before, ir.node("DequantizeLinear", inputs, {"axis": axis}, name=self._fresh(inputs[0], "DQ")))
        return self._named(node, f"{name_of(inputs[0])}_dequantized")

    def layer(self, before: ir.Node, operator: str, inputs: Sequence[ir.Value | None]) -> ir.Value:
        """What a new float layer writes in place of ``before``, which goes later.

        The layer has the name of ``before`` without ending, or that of what ``before`` writes; a tensor may have the
        same one.
        """
        kept = {name: entry.value for name, entry in before.attributes.items() if name not in OWN_ATTRIBUTES}
        name = _plain(before.name or name_of(before.outputs[0]))
        return self._named(self._add(before, ir.node(operator, inputs, kept, name=name)), f"{name}_result")

    def quantized(self, before: ir.Node, value: ir.Value, parts: Sequence[ir.Value | None]) -> None:
        """A new QuantizeLinear of ``value`` writes what ``before`` wrote, which goes; its name without ending is
        ``value``'s from then on.
        """
        inputs = [value, *(part for part in parts if part is not None)]
        old = before.outputs[0]
        plain = _plain(name_of(old))
        node = self._add(before, ir.node("QuantizeLinear", inputs, name=self.names.fresh(f"{plain}_Q")))
        new = node.outputs[0]
        new.type = old.type
        self.replace(before, old, new)
        if plain == new.name and not new.is_graph_output():
            new.name, value.name = self.names.fresh(f"{plain}_quantized"), plain
        else:
            value.name = self.names.fresh(plain)

    def replace(self, before: ir.Node, old: ir.Value, new: ir.Value) -> None:
        """``new`` takes the readers and the name of ``old``, whose node goes."""
        name, new.shape = old.name, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.graph.remove(before, safe=True)
        old.name, new.name = None, name

    def bias(self, before: ir.Node, integers: ir.Value | None, scales: Sequence[ir.Value | None]) -> list[ir.Value]:
        """The dequantized bias: its scale is the product of those of activation and weight."""
        parts = [constant_of(scale) for scale in scales]
        if integers is None or any(part is None for part in parts):
            return []
        numbers = [part.numpy().astype(np.float32).reshape(-1) for part in parts if part is not None]
        product = numbers[0] * numbers[1]
        scale = add_constant(
            self.graph, self._fresh(integers, "scale"), product.reshape(()) if product.size == 1 else product
        )
        bias = self.dequantized(before, [integers, scale], 0)
        bias.meta[FOLLOWING] = True
        return [bias]

    def _add(self, before: ir.Node, node: ir.Node) -> ir.Node:
        self.graph.insert_before(before, node)
        return node

    def _fresh(self, value: ir.Value, ending: str) -> str:
        return self.names.fresh(f"{name_of(value)}_{ending}")

    def _named(self, node: ir.Node, name: str) -> ir.Value:
        node.outputs[0].name = self.names.fresh(name)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return node.outputs[0]


def _plain(name: str) -> str:
    """The name without what quantizers append."""
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def _conv(writer: _Writer, node: ir.Node) -> None:
    values = [*node.inputs, None][:9]
    read = [writer.dequantized(node, values[:3]), writer.dequantized(node, values[3:6], 0)]
    read += writer.bias(node, values[8], (values[1], values[4]))
    writer.quantized(node, writer.layer(node, "Conv", read), values[6:8])


def _matrix_product(writer: _Writer, node: ir.Node) -> None:
    values = node.inputs
    read = [writer.dequantized(node, values[:3], 0), writer.dequantized(node, values[3:6])]
    writer.quantized(node, writer.layer(node, "MatMul", read), values[6:8])


def _gemm(writer: _Writer, node: ir.Node) -> None:
    values = [*node.inputs, None, None, None][:9]
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    read = [writer.dequantized(node, values[:3]), writer.dequantized(node, values[3:6], axis)]
    read += writer.bias(node, values[6], (values[1], values[4]))
    result = writer.layer(node, "Gemm", read)
    if values[7] is None:
        writer.replace(node, node.outputs[0], result)
    else:
        writer.quantized(node, result, values[7:9])


def _elementwise(writer: _Writer, node: ir.Node) -> None:
    values = node.inputs
    read = [writer.dequantized(node, values[:3]), writer.dequantized(node, values[3:6])]
    result = writer.layer(node, ELEMENTWISE[node.op_type], read)
    writer.quantized(node, result, values[6:8])


def _alone(writer: _Writer, node: ir.Node) -> None:
    if node.attributes.get_int("channels_last", 0):
        return
    read = [writer.dequantized(node, node.inputs[:3])]
    writer.quantized(node, writer.layer(node, ALONE[node.op_type], read), node.inputs[3:5])


def _moving(writer: _Writer, node: ir.Node) -> None:
    value = node.inputs[0]
    quantizer = None if value is None else value.producer()
    if quantizer is None or not is_op(quantizer, "QuantizeLinear") or len(node.outputs) > 1:
        return
    parts = quantizer.inputs[1:3]
    read = [writer.dequantized(node, [value, *parts]), *node.inputs[1:]]
    writer.quantized(node, writer.layer(node, node.op_type, read), parts)


def _concat(writer: _Writer, node: ir.Node) -> None:
    values = node.inputs
    read = [writer.dequantized(node, values[place : place + 3]) for place in range(2, len(values), 3)]
    writer.quantized(node, writer.layer(node, "Concat", read), values[:2])


def _run_time_product(writer: _Writer, node: ir.Node) -> None:
    """MatMulInteger or ConvInteger, whose Cast and Mul go with it."""
    values = [*node.inputs, None, None][:4]
    quantizer = None if values[0] is None else values[0].producer()
    cast = _only_reader(node.outputs[0], "Cast")
    product = None if cast is None else _only_reader(cast.outputs[0], "Mul")
    if quantizer is None or not is_op(quantizer, "DynamicQuantizeLinear") or product is None or cast is None:
        return
    scales = next((value for value in product.inputs if value is not cast.outputs[0]), None)
    scaling = None if scales is None else scales.producer()
    parts = [] if scaling is None else [value for value in scaling.inputs if value is not quantizer.outputs[1]]
    if len(parts) != 1 or constant_of(parts[0]) is None:
        return
    convolution = is_op(node, "ConvInteger")
    weight = writer.dequantized(node, [values[1], parts[0], values[3]], 0 if convolution else 1)
    operator = "Conv" if convolution else "MatMul"
    result = writer.layer(node, operator, [quantizer.inputs[0], weight])
    writer.replace(product, product.outputs[0], result)
    writer.graph.remove([cast, node], safe=True)


def _only_reader(value: ir.Value, operator: str) -> ir.Node | None:
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and is_op(readers[0], operator) else None


_REWRITES: Mapping[str, Callable[[_Writer, ir.Node], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matrix_product,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "MatMulInteger": _run_time_product,
    "ConvInteger": _run_time_product,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(ALONE, _alone),
}
