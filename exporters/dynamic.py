"""Dynamic quantization: DynamicQuantizeLinear and MatMulInteger, DynamicQuantizeLSTM."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.fuse_gelu import LEAST_GELU, gelu_outputs
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.dynamic import dynamic_form

__all__ = ["DynamicWriter"]

Attributes: TypeAlias = Mapping[str, int | list[int]]

MICROSOFT = "com.microsoft"

SMALLEST = np.float32(1e-30)
"""Least magnitude by which a row is divided: one of zeros stays one."""

AXES_OPSET = 18
"""The first opset in which the axes of ReduceMax are an input."""


class DynamicWriter:
    """Rewrites the layers of a graph that :func:`dfq_deploy.quantization.dynamic.mark_dynamic` has marked.

    A product becomes ``DynamicQuantizeLinear``, ``MatMulInteger``, ``Cast`` and ``Mul``, which ONNX Runtime (1.31)
    joins to DynamicQuantizeMatMul, or to MatMulIntegerToFloat where several products read the same integers. With a
    scale for each row, the rows are divided by their largest magnitude before, and multiplied by it after; of a Gelu,
    which hardly goes below zero, the largest value does.

    Args:
        model: its main graph gets the integers and scales; nodes inside If, Loop and Scan read them from there.
        encodings: of the weights.
    """

    def __init__(self, model: ir.Model, encodings: Mapping[str, Encoding], names: Names) -> None:
        self.model, self.graph = model, model.graph
        self.encodings, self.names = encodings, names
        self.opset = model.opset_imports.get("", AXES_OPSET)
        self.quantized: dict[tuple[ir.Graph, ir.Value, str], tuple[ir.Value, ...]] = {}
        self.gelus = gelu_outputs(model.graph)
        self.weights: dict[tuple[str, bool], tuple[ir.Value, ir.Value, ir.Value]] = {}

    def write(self) -> None:
        """Rewrite all marked nodes."""
        for node in list(self.graph.all_nodes()):
            if dynamic_form(node) is None or any(name not in self.encodings for name in _weights_of(node)):
                continue
            if is_op(node, "LSTM"):
                self._lstm(node)
            else:
                self._product(node)

    def _product(self, node: ir.Node) -> None:
        graph = node.graph
        activation, weight = node.inputs[:2]
        if not isinstance(graph, ir.Graph) or activation is None or weight is None:
            return
        integers, scale, zero, *rows = self._activation(graph, activation, node)
        stored, step, offset = self._weight(weight, bool(node.attributes.get_int("transB", 0)))
        name, result = str(node.name), node.outputs[0]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        product = self._node("MatMulInteger", [integers, stored, zero, offset], f"{name}_MatMulInteger", node)
        floats = self._node("Cast", [product], f"{name}_Cast", node, {"to": int(ir.DataType.FLOAT)})
        steps = self._node("Mul", [scale, step], f"{name}_scale", node)
        last = self._node("Mul", [floats, steps], f"{name}_Mul", node)
        for row in rows:
            last = self._node("Mul", [last, row], f"{name}_rows", node)
        if bias is not None:
            last = self._node("Add", [last, bias], f"{name}_Add", node)
        product.dtype = ir.DataType.INT32
        _take_over(graph, node, result, last)

    def _activation(self, graph: ir.Graph, value: ir.Value, before: ir.Node) -> tuple[ir.Value, ...]:
        """Integers, scale and zero point of ``value``; and the largest magnitudes of its rows, for the form ``row``."""
        form = str(dynamic_form(before))
        if (graph, value, form) in self.quantized:
            return self.quantized[graph, value, form]
        name, rows, read = name_of(value), [], value
        if form == "row":
            gelu = value in self.gelus
            magnitudes = value if gelu else self._node("Abs", [value], f"{name}_Abs", before)
            axes = {"axes": [-1]} if self.opset < AXES_OPSET else {}
            inputs = [magnitudes] if axes else [magnitudes, self._constant(f"{name}_axes", np.array([-1], np.int64))]
            largest = self._node("ReduceMax", inputs, f"{name}_ReduceMax", before, {**axes, "keepdims": 1})
            least = self._constant(f"{name}_smallest", np.float32(-LEAST_GELU) if gelu else SMALLEST)
            rows = [self._node("Max", [largest, least], f"{name}_rows", before)]
            read = self._node("Div", [value, rows[0]], f"{name}_Div", before)
        quantize = ir.node("DynamicQuantizeLinear", [read], num_outputs=3)
        quantize.name = self.names.fresh(f"{name}_DynamicQuantizeLinear")
        kinds = {"quantized": ir.DataType.UINT8, "scale": ir.DataType.FLOAT, "zero_point": ir.DataType.UINT8}
        for output, (what, kind) in zip(quantize.outputs, kinds.items(), strict=True):
            output.name, output.type = self.names.fresh(f"{name}_{what}"), ir.TensorType(kind)
        graph.insert_before(before, quantize)
        self.quantized[graph, value, form] = (*quantize.outputs, *rows)
        return self.quantized[graph, value, form]

    def _weight(self, weight: ir.Value, transposed: bool) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Integers (K, N), scales and zero points of a weight."""
        name = name_of(weight)
        if (name, transposed) not in self.weights:
            encoding = self.encodings[name]
            integers = encoding.quantize(_array(weight)).astype(np.int8)
            self.weights[name, transposed] = (
                self._constant(f"{name}_quantized", np.ascontiguousarray(integers.T if transposed else integers)),
                self._constant(f"{name}_scale", encoding.scale),
                self._constant(f"{name}_zero_point", encoding.zero_point.astype(np.int8)),
            )
        return self.weights[name, transposed]

    def _lstm(self, node: ir.Node) -> None:
        """``DynamicQuantizeLSTM`` has its weights transposed, and their scales behind the other inputs."""
        graph = node.graph
        if not isinstance(graph, ir.Graph):
            return
        kept, parameters = [*node.inputs, *[None] * (8 - len(node.inputs))], []
        for index in (1, 2):
            value = node.inputs[index]
            if value is None:
                return
            name, array = name_of(value), _array(value)
            encoding = self.encodings[name]
            shape = (len(array),) if encoding.axis is None else (len(array), encoding.scale.size)
            integers = encoding.quantize(array).astype(np.int8).transpose(0, 2, 1)
            kept[index] = self._constant(f"{name}_quantized", np.ascontiguousarray(integers))
            parameters += [
                self._constant(f"{name}_scale", np.broadcast_to(encoding.scale, shape).copy()),
                self._constant(f"{name}_zero_point", np.zeros(shape, np.int8)),
            ]
        quantized = ir.Node(
            MICROSOFT, "DynamicQuantizeLSTM", [*kept, *parameters], node.attributes.values(),
            num_outputs=len(node.outputs), name=node.name,
        )  # fmt: skip
        graph.insert_before(node, quantized)
        for old, new in zip(node.outputs, quantized.outputs, strict=True):
            label, new.type, new.shape = old.name, old.type, old.shape
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            old.name, new.name = None, label
        graph.remove(node, safe=True)
        self.model.opset_imports.setdefault(MICROSOFT, 1)

    def _node(
        self, op_type: str, inputs: list[ir.Value], name: str, before: ir.Node, attributes: Attributes | None = None
    ) -> ir.Value:
        """The output of a new node in the graph of ``before``."""
        node = ir.node(op_type, inputs, attributes or {}, name=self.names.fresh(name))
        output = node.outputs[0]
        output.name, output.type = self.names.fresh(f"{name}_output"), ir.TensorType(ir.DataType.FLOAT)
        assert before.graph is not None
        before.graph.insert_before(before, node)
        return output

    def _constant(self, name: str, array: NDArray[np.generic] | np.generic) -> ir.Value:
        return add_constant(self.graph, self.names.fresh(name), np.asarray(array))


def _weights_of(node: ir.Node) -> list[str]:
    return [name_of(value) for value in (node.inputs[1:3] if is_op(node, "LSTM") else node.inputs[1:2])]


def _array(value: ir.Value) -> NDArray[np.float32]:
    tensor = constant_of(value)
    if tensor is None:
        raise ValueError(f"initializer '{value.name}' has no value")
    return tensor.numpy()


def _take_over(graph: ir.Graph, node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """``new`` takes the name, the type and the readers of ``old``, and ``node``, which wrote it, goes."""
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    old.name, new.name = None, name
