"""QDQ file for ONNX Runtime: inserts Q and DQ, writes integer weights and int32 biases."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.passes.fold_batch_norm import clone
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.writing import write_model
from dfq_deploy.plugins.contracts import Exporter, Written
from dfq_deploy.quantization.placement.exact import exact_values
from dfq_deploy.quantization.placement.limits import activation_limits
from dfq_deploy.quantization.weights import raise_scale_for_bias

from .dynamic import DynamicWriter
from .float_clips import write_float_clips
from .half import half_scales, to_half
from .storage import IR_VERSION_OF_FLOATS, element_type, is_clipped, packed, with_opset_for
from .tables import share_tables, write_tables
from .weight_blocks import write_blocks

__all__ = ["Qdq", "quantized_model"]

logger = logging.getLogger(__name__)

MINIMUM_IR_VERSION = 7
"""The IR version of opset 13; below 4 every initializer would have to be a graph input."""


@dataclass(frozen=True)
class Qdq(Exporter):
    """Writes one ONNX file whose quantized tensors pass through QuantizeLinear and DequantizeLinear.

    Args:
        external_data_above: size of all initializers in bytes above which they are written to ``PATH.data``; None is
            the limit of one protobuf file, 2 GiB.
        integer_bias: store biases as int32; False for runtimes that need them in float. (ONNX Runtime rounds float
            biases of quantized layers itself.)
        float16: compute in half precision what stays in float; inputs and outputs stay float32.
        whole_bytes: store weights of fewer than 8 bits in bytes, for runtimes without types of 4 bits.
    """

    summary: ClassVar[str] = "ONNX with QuantizeLinear and DequantizeLinear, for ONNX Runtime on CPUs"

    external_data_above: int | None = None
    integer_bias: bool = True
    float16: bool = False
    whole_bytes: bool = False

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write ``model``, quantized by ``encodings``, to ``path``; ``model`` is not changed.

        Raises:
            ModelError: an encoding has no tensor in the model, or the file cannot represent it.
            OutputError: the file cannot be written.
        """
        if self.float16:
            encodings = half_scales(encodings)
        quantized = quantized_model(model, encodings, integer_bias=self.integer_bias, whole_bytes=self.whole_bytes)
        if self.float16:
            quantized = to_half(quantized)
        files = write_model(quantized, path, self.external_data_above)
        logger.info("export: %s, %d bytes, %d encodings", path.name, path.stat().st_size, len(encodings))
        return Written(files)


def quantized_model(
    model: ir.Model, encodings: Mapping[str, Encoding], *, integer_bias: bool = True, whole_bytes: bool = False
) -> ir.Model:
    """Return a copy of ``model`` in which every tensor of ``encodings`` is quantized.

    Rules:

    1. An activation is followed by Q and DQ, and all its consumers read the DQ, except an Identity that makes
       an input an output (:mod:`dfq_deploy.quantization.placement.exact`). A quantized graph output keeps its name,
       and the tensor before Q is renamed.
    2. A weighted node whose activation and weight have encodings reads its weight from an integer initializer through a
       DQ, and so do all consumers of another constant with an encoding. Other consumers of the weight keep the float
       one.
    3. The constant bias of such a node becomes int32 of scale s_x * s_w, through a DQ for each node. If it would
       overflow, the channel's weight scale is raised. It stays float if ``integer_bias`` is False.
    4. Initializers are no longer graph inputs, since a runtime treats those as variable.
    5. 4 and 16 bits have their own types in opset 21, to which the copy is upgraded. Other widths are stored in the
       next larger type, activations with a Clip between Q and DQ. So are 4 bits after a Clip, which ONNX Runtime's
       optimizer (1.31) rejects otherwise. With ``whole_bytes`` nothing is stored in 4 bits.
    6. A Relu or Clip is omitted if the integers of such a width saturate at its bounds; its input takes over the name.
       ONNX Runtime, which considers the stored type, would keep it and run the layer before it in a float kernel.
    7. Layers that are marked for dynamic quantization (:mod:`dfq_deploy.quantization.dynamic`) and tables of a Gather
       (:mod:`dfq_deploy.quantization.tables`) become operators on integers; matrices in blocks
       (:mod:`dfq_deploy.quantization.weight_blocks`) become MatMulNBits.
    8. An Identity between the DQ of one type and the Q of another is omitted: the pair converts.
    9. A Relu or Clip that reads floats of an integer product becomes Max and Min, unless biases are float
       (:mod:`.float_clips`).

    Raises:
        ModelError: an encoding has no tensor in the model, or the file cannot represent it.
    """
    _check_encodings(model.graph, encodings)
    copy = with_opset_for(clone(model), encodings.values(), whole_bytes=whole_bytes)
    floating = any(encoding.qtype.floating for encoding in encodings.values())
    copy.ir_version = max(copy.ir_version, IR_VERSION_OF_FLOATS if floating else MINIMUM_IR_VERSION)
    RemoveInitializersFromInputsPass()(copy)
    exact, names = exact_values(copy), Names(copy.graph)
    DynamicWriter(copy, encodings, names).write()
    write_blocks(copy, names)
    tables = write_tables(copy.graph, encodings, names)
    _Writer(copy.graph, encodings, integer_bias, whole_bytes, exact).write()
    share_tables(copy.graph, tables, names)
    _convert_directly(copy.graph)
    if integer_bias:
        write_float_clips(copy.graph, names)
    drop_unused_initializers(copy.graph)
    return copy


def _convert_directly(graph: ir.Graph) -> None:
    """Let a Q of another type read a DQ without the Identity between them."""
    for node in [node for node in graph if is_op(node, "Identity")]:
        source, readers = node.inputs[0], [use.node for use in node.outputs[0].uses()]
        before = None if source is None else source.producer()
        if source is None or before is None or not is_op(before, "DequantizeLinear") or len(readers) != 1:
            continue
        types = [one.inputs[2].dtype for one in (before, *readers) if len(one.inputs) > 2 and one.inputs[2] is not None]
        if is_op(readers[0], "QuantizeLinear") and len(set(types)) == 2 and not node.outputs[0].is_graph_output():
            readers[0].replace_input_with(0, source)
            graph.remove(node, safe=True)


class _Writer:
    """Inserts Q and DQ nodes into a graph."""

    def __init__(
        self,
        graph: ir.Graph,
        encodings: Mapping[str, Encoding],
        integer_bias: bool,
        whole_bytes: bool,
        exact: Collection[ir.Value] = (),
    ) -> None:
        self.graph = graph
        self.exact = frozenset(exact)
        self.integer_bias = integer_bias
        self.whole_bytes = whole_bytes
        self.encodings = dict(encodings)
        self.names = Names(graph)
        self.start = next(iter(graph), None)

    def write(self) -> None:
        activations = {name: value for name, value in _activations(self.graph).items() if name in self.encodings}
        nodes = [node for node in self.graph if self._is_quantized(node)]
        for node in nodes:
            if self._has_integer_bias(node):
                self._raise_weight_scale(node)
        dequantized: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            activation, weight, *bias = node.inputs
            if activation is None or weight is None:
                continue
            if self._has_integer_bias(node) and bias[0] is not None:
                self._store_bias(node, activation, weight, bias[0])
            if weight not in dequantized:
                dequantized[weight] = self._store_weight(weight, node)
            node.replace_input_with(1, dequantized[weight])
        self._store_operands(dequantized)
        for name, value in activations.items():
            self._quantize(value, self.encodings[name])

    def _store_operands(self, dequantized: dict[ir.Value, ir.Value]) -> None:
        """Quantize constants with an encoding that are not weights, for all their consumers."""
        weights = set(dequantized)
        for node in list(self.graph):
            for index, value in enumerate(node.inputs):
                if value is None or value in weights or value.name not in self.encodings or constant_of(value) is None:
                    continue
                if value not in dequantized:
                    dequantized[value] = self._store_weight(value, node)
                node.replace_input_with(index, dequantized[value])

    def _is_quantized(self, node: ir.Node) -> bool:
        if not is_op(node, WEIGHTED_OPS) or node.inputs[0] is None or constant_of(node.inputs[1]) is None:
            return False
        return all(value is not None and value.name in self.encodings for value in node.inputs[:2])

    def _has_integer_bias(self, node: ir.Node) -> bool:
        bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        return self.integer_bias and bias is not None

    def _raise_weight_scale(self, node: ir.Node) -> None:
        bias = constant_of(node.inputs[2])
        if bias is not None:
            activation, weight = (value.name or "" for value in node.inputs[:2] if value is not None)
            raised = raise_scale_for_bias(self.encodings[weight], bias.numpy(), self.encodings[activation])
            self.encodings[weight] = raised

    def _quantize(self, value: ir.Value, encoding: Encoding) -> None:
        """Insert Q, Clip if needed, and DQ between ``value`` and its consumers."""
        name, producer = value.name or "", value.producer()
        source = self._source_before_clip(value, encoding)
        clipped = is_clipped(encoding.qtype) or (
            encoding.qtype.bits == 4 and (self.whole_bytes or (source is value and _follows_clip(value)))
        )
        element = element_type(encoding.qtype, whole_bytes=clipped)
        parameters = self._parameters(name, encoding, element)
        quantize = ir.node("QuantizeLinear", [source, *parameters], name=self.names.fresh(f"{name}_QuantizeLinear"))
        steps = [quantize]
        if clipped:
            bounds = [
                self._initializer(f"{name}_{suffix}", np.asarray(bound, element.numpy()))
                for suffix, bound in (("least", encoding.qtype.qmin), ("largest", encoding.qtype.qmax))
            ]
            steps.append(ir.node("Clip", [quantize.outputs[0], *bounds], name=self.names.fresh(f"{name}_Clip")))
        for step in steps:
            integers = step.outputs[0]
            integers.name, integers.shape = self.names.fresh(f"{name}_quantized"), value.shape
            integers.type = ir.TensorType(element)
        dequantize = ir.node(
            "DequantizeLinear", [integers, *parameters], name=self.names.fresh(f"{name}_DequantizeLinear")
        )
        floats = dequantize.outputs[0]
        floats.shape, floats.type = value.shape, value.type
        for use in tuple(value.uses()):
            if use.node is not quantize and self.exact.isdisjoint(use.node.outputs):
                use.node.replace_input_with(use.idx, floats)
        if value.is_graph_output() and not value.is_graph_input():
            for index in [i for i, listed in enumerate(self.graph.outputs) if listed is value]:
                self.graph.outputs[index] = floats
            value.name, floats.name = self.names.fresh(f"{name}_unquantized"), name
        else:
            floats.name = self.names.fresh(f"{name}_dequantized")
            source.name = name
        if producer is not None:
            self.graph.insert_after(producer, [*steps, dequantize])
            if source is not value:
                self.graph.remove(producer, safe=True)
        elif self.start is not None:
            self.graph.insert_before(self.start, [*steps, dequantize])

    def _source_before_clip(self, value: ir.Value, encoding: Encoding) -> ir.Value:
        """Return the input of the Relu or Clip before ``value`` if ``encoding`` makes it redundant, else ``value``.

        At 8 and 16 bits the runtime detects that itself. An input that has other consumers or is quantized is kept.
        """
        node, kind = value.producer(), encoding.qtype
        limits = None if node is None or kind.bits in (8, 16) else activation_limits(node)
        source = None if node is None or limits is None else node.inputs[0]
        if limits is None or source is None or source.producer() is None or source.name in self.encodings:
            return value
        if len(source.uses()) > 1 or source.is_graph_output():
            return value
        low, high = ((end - int(encoding.zero_point)) * float(encoding.scale) for end in (kind.qmin, kind.qmax))
        return source if limits[0] <= low and high <= limits[1] * (1 + 1e-6) else value

    def _store_weight(self, value: ir.Value, before: ir.Node) -> ir.Value:
        name = value.name or ""
        encoding = self.encodings[name]
        kind = element_type(encoding.qtype, whole_bytes=self.whole_bytes)
        integers = self._packed(f"{name}_quantized", encoding.quantize(_array(value)), kind)
        inputs = [integers, *self._parameters(name, encoding, kind)]
        return self._dequantized(name, inputs, encoding.axis, before)

    def _store_bias(self, node: ir.Node, activation: ir.Value, weight: ir.Value, bias: ir.Value) -> None:
        name, array = bias.name or "", _array(bias)
        scale = np.asarray(self.encodings[activation.name or ""].scale * self.encodings[weight.name or ""].scale)
        integers = np.rint(array.astype(np.float64) / scale).astype(np.int32)
        inputs = [self._initializer(f"{name}_quantized", integers), self._initializer(f"{name}_scale", scale)]
        node.replace_input_with(2, self._dequantized(name, inputs, array.ndim - 1 if scale.ndim else None, node))

    def _dequantized(self, name: str, inputs: list[ir.Value], axis: int | None, before: ir.Node) -> ir.Value:
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node("DequantizeLinear", inputs, attributes, name=self.names.fresh(f"{name}_DequantizeLinear"))
        self.graph.insert_before(before, node)
        output = node.outputs[0]
        output.name = self.names.fresh(f"{name}_dequantized")
        output.shape, output.type = inputs[0].shape, ir.TensorType(ir.DataType.FLOAT)
        return output

    def _parameters(self, name: str, encoding: Encoding, kind: ir.DataType) -> tuple[ir.Value, ir.Value]:
        scale = self._initializer(f"{name}_scale", encoding.scale)
        return scale, self._packed(f"{name}_zero_point", encoding.zero_point, kind)

    def _initializer(self, name: str, array: NDArray[Any]) -> ir.Value:
        return add_constant(self.graph, self.names.fresh(name), np.asarray(array))

    def _packed(self, name: str, integers: NDArray[np.integer], kind: ir.DataType) -> ir.Value:
        name = self.names.fresh(name)
        return add_constant(self.graph, name, packed(integers, kind, name))


def _follows_clip(value: ir.Value) -> bool:
    """Return True if a Clip writes ``value``, possibly through an Identity."""
    node = value.producer()
    while node is not None and is_op(node, "Identity") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and is_op(node, "Clip")


def _array(value: ir.Value) -> NDArray[np.floating[Any]]:
    tensor = constant_of(value)
    if tensor is None:
        raise ValueError(f"initializer '{value.name}' has no value")
    return tensor.numpy()


def _activations(graph: ir.Graph) -> dict[str, ir.Value]:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return {value.name: value for value in values if value.name and value.name not in graph.initializers}


def _check_encodings(graph: ir.Graph, encodings: Mapping[str, Encoding]) -> None:
    activations = _activations(graph)
    for name, encoding in encodings.items():
        bits = encoding.qtype.bits
        if name in activations:
            if encoding.axis is not None or bits > 16:
                kind = f"{encoding.qtype}, axis {encoding.axis}"
                raise ModelError(f"tensor '{name}': its encoding is {kind}; a QDQ file takes 2 to 16 bits per tensor")
        elif name not in graph.initializers:
            raise ModelError(f"tensor '{name}': it has an encoding, but the model has no tensor of that name")
        elif bits > (8 if any(is_op(use.node, WEIGHTED_OPS) for use in graph.initializers[name].uses()) else 16):
            raise ModelError(f"weight '{name}': its encoding is {encoding.qtype}; a QDQ file takes at most 8 bits")
