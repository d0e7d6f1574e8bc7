"""Make inputs and outputs integers: fold the preprocessing into the model.

``x = (pixel / 255 - mean) / std`` is ``a * pixel + b`` for each channel: a dequantization of the pixel. If the network
begins with convolutions, one scale is used for all channels, and the rest of ``a`` and ``b`` is folded into their
weights and biases, so that ONNX Runtime's integer kernel reads the bytes directly.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, channel_shape
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.inputs import is_channels_last, main_input_value
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QUANTIZE_OPS, is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.quantization.qdq_reader import (
    constant_dequantizer,
    constant_values,
    integers_and_encoding,
    quantization_of,
)
from dfq_deploy.quantization.weights import encoding_of_weight, raise_scale_for_bias, raise_scale_for_sums
from dfq_deploy.runtime.integer_io import METADATA
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["integer_io"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Pixels:
    """``x = factor * pixel + shift``, each of shape (channels,), and the pixel (0 to 255) that represents x = 0."""

    factor: Floats
    shift: Floats
    zero: NDArray[np.uint8]

    @classmethod
    def of(cls, preprocess: Preprocess, channels: int) -> "_Pixels":
        low, high = (bound.astype(np.float64) for bound in preprocess.bounds(channels))
        factor = (high - low) / 255
        return cls(factor, low, np.clip(np.rint(-low / factor), 0, 255).astype(np.uint8))

    @property
    def is_uniform(self) -> bool:
        """True if all channels have the same factor and shift."""
        return bool(np.ptp(self.factor) < 1e-7 * self.factor.max() and np.ptp(self.shift) < 1e-6)


def integer_io(model: ir.Model, preprocess: Preprocess | None = None, *, mixed_signs: bool = False) -> tuple[str, ...]:
    """Change the main input of a QDQ model, in place, to bytes, and its quantized outputs to integers.

    Rules:

    1. Without ``preprocess`` the input becomes the output of its QuantizeLinear: integers of that scale.
    2. With ``preprocess``, if all consumers of the quantized input are convolutions of one group with u8 activations
       (or s8 with ``mixed_signs``),
       the input is uint8 with one scale for all channels. The differences between channels are folded into weights and
       biases; weights keep their integers if channels do not differ. Such a convolution pads with the pixel that
       represents zero; if the means of the channels differ, with that of their average, which is slightly wrong at the
       border (on the zoo the signal to noise of the logits is 0.4 dB below to 0.8 dB above that of the file with float
       input).
    3. Any other input is uint8, followed by a DequantizeLinear per channel before the existing QuantizeLinear.
    4. An output that a DequantizeLinear writes becomes the integers before it.

    Scales and zero points are stored in the metadata of the model.

    Args:
        model: quantized, with its constants as initializers.
        preprocess: the conversion of pixels to the input.
        mixed_signs: a convolution may read u8 where other activations are s8.

    Returns:
        one sentence for each output that stays float.

    Raises:
        ModelError: the main input is not quantized.
        SamplesError: the preprocess has another number of channels.
    """
    value = main_input_value(model)
    readers = [use.node for use in value.uses()]
    quantizers = [node for node in readers if is_op(node, QUANTIZE_OPS) and constant_of(node.inputs[1])]
    if not quantizers or value.shape is None:
        raise ModelError(f"input '{value.name}' is not quantized, so integers cannot be fed; calibrate the model first")
    rewriter = _InputRewriter(model, value)
    description: dict[str, Any]
    if preprocess is None:
        if len(readers) > 1:
            raise ModelError(f"input '{value.name}' is also read as float; give --preprocess to feed pixels")
        description = rewriter.strip(quantizers[0])
    else:
        axis = len(value.shape) - 1 if is_channels_last(model) else 1
        pixels = _Pixels.of(preprocess, int(value.shape[axis]))  # type: ignore[arg-type]
        convolutions = _first_convolutions(quantizers[0], mixed_signs) if axis == 1 and len(readers) == 1 else None
        if convolutions is None:
            rewriter.dequantize(pixels, axis)
        else:
            rewriter.fold(pixels, quantizers[0], convolutions)
        description = {"type": "uint8", "axis": axis, "mean": preprocess.mean, "std": preprocess.std}
    outputs, float_outputs = _integer_outputs(model.graph)
    drop_unused_initializers(model.graph)
    model.metadata_props[METADATA] = json.dumps({"inputs": {value.name: description}, "outputs": outputs})
    return tuple(f"output '{name}' stays float: the runtime's integer kernel writes float" for name in float_outputs)


def _first_convolutions(quantizer: ir.Node, mixed_signs: bool) -> list[ir.Node] | None:
    """Return the convolutions into which rule 2 folds the preprocessing; None if it does not apply."""
    zero_point = constant_of(quantizer.inputs[2]) if len(quantizer.inputs) > 2 else None
    kinds = (ir.DataType.UINT8, ir.DataType.INT8) if mixed_signs else (ir.DataType.UINT8,)
    convolutions = []
    for use in quantizer.outputs[0].uses():
        if not is_op(use.node, DEQUANTIZE_OPS):
            return None
        convolutions += [reader.node for reader in use.node.outputs[0].uses()]
    foldable = all(
        is_op(node, "Conv")
        and node.attributes.get_int("group", 1) == 1
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and constant_dequantizer(node.inputs[1]) is not None
        and (len(node.inputs) < 3 or node.inputs[2] is None or constant_values(node.inputs[2]) is not None)
        for node in convolutions
    )
    return convolutions if foldable and convolutions and zero_point is not None and zero_point.dtype in kinds else None


class _InputRewriter:
    """Rewrites the graph after one input."""

    def __init__(self, model: ir.Model, value: ir.Value) -> None:
        self.graph, self.value = model.graph, value
        self.names = Names(model.graph)

    def strip(self, quantizer: ir.Node) -> dict[str, Any]:
        """Feed the output of ``quantizer`` directly."""
        integers = quantizer.outputs[0]
        description = _description(quantizer)
        integers.replace_all_uses_with(self.value, replace_graph_outputs=True)
        self.graph.remove(quantizer, safe=True)
        self.value.type = ir.TensorType(ir.DataType[description["type"].upper()])
        return description

    def dequantize(self, pixels: _Pixels, axis: int) -> None:
        """Insert a DequantizeLinear per channel between the bytes and all consumers of the input."""
        one = pixels.is_uniform
        scale, zero = (part[0] if one else part for part in (pixels.factor.astype(np.float32), pixels.zero))
        uses = tuple(self.value.uses())
        floats = self._dequantized(self.value, np.asarray(scale), np.asarray(zero), uses[0].node, axis)
        for use in uses:
            use.node.replace_input_with(use.idx, floats)
        self.value.type = ir.TensorType(ir.DataType.UINT8)
        self.graph.sort()

    def fold(self, pixels: _Pixels, quantizer: ir.Node, convolutions: Sequence[ir.Node]) -> None:
        """Insert a DequantizeLinear with one scale, and fold the rest of the preprocessing into ``convolutions``."""
        scale = np.asarray(pixels.factor.mean(), np.float32)
        centre = np.asarray(np.rint(np.mean(-pixels.shift / pixels.factor)).clip(0, 255), np.uint8)
        dequantizers = [use.node for use in quantizer.outputs[0].uses()]
        self.value.type = ir.TensorType(ir.DataType.UINT8)
        for node in convolutions:
            offset = pixels.factor * float(centre) + pixels.shift
            node.replace_input_with(0, self._dequantized(self.value, scale, centre, node))
            self._fold_weight(node, pixels.factor / float(scale), offset, scale)
        self.graph.remove([*dequantizers, quantizer], safe=True)

    def _fold_weight(self, node: ir.Node, ratio: Floats, offset: Floats, scale: NDArray[np.float32]) -> None:
        """Fold ``ratio`` per channel into the weight, and the constant ``offset`` per channel into the bias."""
        old = constant_dequantizer(node.inputs[1])
        if old is None:
            raise ValueError(f"Conv '{node.name}': its weight is not a constant")
        integers, encoding = integers_and_encoding(old)
        weight = encoding.dequantize(integers).astype(np.float64)
        bias_input = node.inputs[2] if len(node.inputs) > 2 else None
        bias = np.zeros(len(weight)) if bias_input is None else constant_values(bias_input)
        if bias is None:
            raise ValueError(f"Conv '{node.name}': its bias is not a constant")
        shape = channel_shape(weight.ndim, 1)
        shifted = bias + (weight * offset.reshape(shape)).sum(axis=tuple(range(1, weight.ndim)))
        if np.abs(ratio - 1).max() > 1e-6:
            sums = neighbor_sums(node, integers)
            weight = weight * ratio.reshape(shape)
            encoding = encoding_of_weight(weight, encoding.qtype, encoding.axis)
            if sums is not None and sums.max() <= LARGEST_SUM:
                encoding = raise_scale_for_sums(encoding, weight, node)
            integers = encoding.quantize(weight).astype(integers.dtype)
        input_encoding = Encoding(scale, np.asarray(0, np.int32), QuantType(8, signed=False, symmetric=False))
        raised = raise_scale_for_bias(encoding, shifted, input_encoding)
        if raised is not encoding:
            integers = raised.quantize(weight).astype(integers.dtype)
        zero = raised.zero_point.astype(integers.dtype)
        name = node.inputs[1].name if node.inputs[1] is not None else "weight"
        node.replace_input_with(1, self._store(f"{name}_bytes", integers, raised.scale, zero, node, raised.axis))
        steps = np.asarray(scale * raised.scale)
        integers = np.rint(shifted / steps.astype(np.float64)).astype(np.int32)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        zero = np.zeros(steps.shape, np.int32)
        axis = 0 if steps.ndim else None
        node.replace_input_with(2, self._store(f"{node.name}_bias_bytes", integers, steps, zero, node, axis))
        for unread in {old, constant_dequantizer(bias_input)}:
            if unread is not None and not unread.outputs[0].uses():
                self.graph.remove(unread, safe=True)

    def _store(
        self,
        name: str,
        integers: NDArray[Any],
        scale: NDArray[np.float32],
        zero: NDArray[Any],
        before: ir.Node,
        axis: int | None,
    ) -> ir.Value:
        return self._dequantized(self._constant(name, integers), scale, zero, before, axis or 0)

    def _dequantized(
        self, source: ir.Value, scale: NDArray[np.float32], zero: NDArray[Any], before: ir.Node, axis: int = 0
    ) -> ir.Value:
        name = source.name or "bytes"
        parameters = [self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero_point", zero)]
        attributes = {"axis": axis} if scale.ndim else {}
        label = self.names.fresh(f"{name}_DequantizeLinear")
        node = ir.node("DequantizeLinear", [source, *parameters], attributes, name=label)
        floats = node.outputs[0]
        floats.name = self.names.fresh(f"{name}_dequantized")
        floats.shape, floats.type = source.shape, ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_before(before, node)
        return floats

    def _constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        return add_constant(self.graph, self.names.fresh(name), array)


def _description(node: ir.Node) -> dict[str, Any]:
    """Return type, scale and zero point of a QuantizeLinear or DequantizeLinear per tensor, for the metadata."""
    quantization = quantization_of(node)
    return {
        "type": (quantization.dtype or ir.DataType.UINT8).name.lower(),
        "scale": 1.0 if quantization.scale is None else float(quantization.scale),
        "zero_point": 0 if quantization.zero_point is None else int(quantization.zero_point),
    }


def _integer_outputs(inner: ir.Graph) -> tuple[dict[str, Any], list[str]]:
    """Replace outputs that a DequantizeLinear writes by its integers.

    Returns:
        type, scale and zero point of each integer output by name, and the names of outputs that stay float.
    """
    descriptions: dict[str, Any] = {}
    float_outputs = []
    for index, output in enumerate(list(inner.outputs)):
        node, name = output.producer(), output.name or ""
        integers = node.inputs[0] if node is not None and is_op(node, DEQUANTIZE_OPS) else None
        if node is None or integers is None or constant_of(node.inputs[1]) is None or integers.is_graph_input():
            float_outputs += [name] if output.dtype in (ir.DataType.FLOAT, None) else []
            continue
        descriptions[name] = _description(node)
        integers.shape = integers.shape or output.shape
        integers.type = ir.TensorType(ir.DataType[descriptions[name]["type"].upper()])
        inner.outputs[index] = integers
        output.name, integers.name = f"{name}_float", name
        if not output.uses():
            inner.remove(node, safe=True)
    return descriptions, float_outputs
