"""Bytes in, integers out: fold the preprocessing into the model.

``x = (pixel / 255 - mean) / std`` is, channel by channel, ``a * pixel + b``: a dequantization of the pixel. Where the
network begins with convolutions, one scale serves all channels and the rest of ``a`` and ``b`` goes into their weights
and biases, so that ONNX Runtime's integer kernel reads the bytes themselves.
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
from dfq_deploy.quantization.weights import encoding_of_weight, room_for_bias
from dfq_deploy.runtime.integer_io import METADATA
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["integer_io"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Pixels:
    """``x = factor * pixel + shift``, each of shape (channels,), and the pixel (0 to 255) that stands for x = 0."""

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
        """All channels are alike."""
        return bool(np.ptp(self.factor) < 1e-7 * self.factor.max() and np.ptp(self.shift) < 1e-6)


def integer_io(model: ir.Model, preprocess: Preprocess | None = None) -> tuple[str, ...]:
    """Make the main input of a QDQ model, in place, pixels as bytes, and its quantized outputs integers.

    Rules: (1) without ``preprocess`` the input is what its QuantizeLinear has made of it: integers of that scale; (2)
    with it, where all readers of the quantized input are convolutions of one group with u8 activations, the input is
    uint8 with one scale for all channels, and what the channels differ by goes into weights and biases; weights keep
    their integers where nothing differs. Such a convolution pads with the pixel that stands for zero: where the means
    of the channels differ, with the one for their average, which is a little off at the border (on the zoo the logits'
    signal to noise is 0.4 dB below to 0.8 dB above that of the file that reads floats); (3) any other input is uint8
    through a DequantizeLinear per channel before the QuantizeLinear that is there; (4) an output that a
    DequantizeLinear writes becomes the integers before it. Scales and zero points are kept in the metadata.

    Args:
        model: quantized, with its constants as initializers.
        preprocess: what turns pixels into the input.

    Returns:
        sentences on what stays float.

    Raises:
        ModelError: the main input is not quantized.
        SamplesError: the preprocess has another number of channels.
    """
    value = main_input_value(model)
    readers = [use.node for use in value.uses()]
    quantizers = [node for node in readers if is_op(node, QUANTIZE_OPS) and constant_of(node.inputs[1])]
    if not quantizers or value.shape is None:
        raise ModelError(f"input '{value.name}' is not quantized, so integers cannot be fed; calibrate the model first")
    surgeon = _Surgeon(model, value)
    described: dict[str, Any]
    if preprocess is None:
        if len(readers) > 1:
            raise ModelError(f"input '{value.name}' is also read as float; give --preprocess to feed pixels")
        described = surgeon.strip(quantizers[0])
    else:
        axis = len(value.shape) - 1 if is_channels_last(model) else 1
        pixels = _Pixels.of(preprocess, int(value.shape[axis]))  # type: ignore[arg-type]
        convolutions = _first_convolutions(quantizers[0]) if axis == 1 and len(readers) == 1 else None
        if convolutions is None:
            surgeon.dequantize(pixels, axis)
        else:
            surgeon.fold(pixels, quantizers[0], convolutions)
        described = {"type": "uint8", "axis": axis, "mean": preprocess.mean, "std": preprocess.std}
    outputs, kept = _integer_outputs(model.graph)
    drop_unused_initializers(model.graph)
    model.metadata_props[METADATA] = json.dumps({"inputs": {value.name: described}, "outputs": outputs})
    return tuple(f"output '{name}' stays float: the runtime's integer kernel writes it so" for name in kept)


def _first_convolutions(quantizer: ir.Node) -> list[ir.Node] | None:
    """The convolutions that rule 2 can fold into; None where it does not apply."""
    zero_point = constant_of(quantizer.inputs[2]) if len(quantizer.inputs) > 2 else None
    found = []
    for use in quantizer.outputs[0].uses():
        if not is_op(use.node, DEQUANTIZE_OPS):
            return None
        found += [reader.node for reader in use.node.outputs[0].uses()]
    plain = all(
        is_op(node, "Conv")
        and node.attributes.get_int("group", 1) == 1
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and constant_dequantizer(node.inputs[1]) is not None
        and (len(node.inputs) < 3 or node.inputs[2] is None or constant_values(node.inputs[2]) is not None)
        for node in found
    )
    return found if plain and found and zero_point is not None and zero_point.dtype == ir.DataType.UINT8 else None


class _Surgeon:
    """Changes the graph behind one input; holds the names in use."""

    def __init__(self, model: ir.Model, value: ir.Value) -> None:
        self.graph, self.value = model.graph, value
        self.names = Names(model.graph)

    def strip(self, quantizer: ir.Node) -> dict[str, Any]:
        """Feed what ``quantizer`` gives."""
        integers = quantizer.outputs[0]
        described = _described(quantizer)
        integers.replace_all_uses_with(self.value, replace_graph_outputs=True)
        self.graph.remove(quantizer, safe=True)
        self.value.type = ir.TensorType(ir.DataType[described["type"].upper()])
        return described

    def dequantize(self, pixels: _Pixels, axis: int) -> None:
        """Bytes -> DequantizeLinear per channel -> everything that read the input."""
        one = pixels.is_uniform
        scale, zero = (part[0] if one else part for part in (pixels.factor.astype(np.float32), pixels.zero))
        uses = tuple(self.value.uses())
        floats = self._dequantized(self.value, np.asarray(scale), np.asarray(zero), uses[0].node, axis)
        for use in uses:
            use.node.replace_input_with(use.idx, floats)
        self.value.type = ir.TensorType(ir.DataType.UINT8)
        self.graph.sort()

    def fold(self, pixels: _Pixels, quantizer: ir.Node, convolutions: Sequence[ir.Node]) -> None:
        """Bytes -> DequantizeLinear of one scale -> convolutions with other weights and biases."""
        scale = np.asarray(pixels.factor.mean(), np.float32)
        centre = np.asarray(np.rint(np.mean(-pixels.shift / pixels.factor)).clip(0, 255), np.uint8)
        olds = [use.node for use in quantizer.outputs[0].uses()]
        self.value.type = ir.TensorType(ir.DataType.UINT8)
        for node in convolutions:
            rest = pixels.factor * float(centre) + pixels.shift
            node.replace_input_with(0, self._dequantized(self.value, scale, centre, node))
            self._fold_weight(node, pixels.factor / float(scale), rest, scale)
        self.graph.remove([*olds, quantizer], safe=True)

    def _fold_weight(self, node: ir.Node, ratio: Floats, rest: Floats, scale: NDArray[np.float32]) -> None:
        """Take ``ratio`` per channel into the weight, and what ``rest`` adds everywhere into the bias."""
        old = constant_dequantizer(node.inputs[1])
        if old is None:
            raise ValueError(f"Conv '{node.name}': its weight is no constant")
        integers, encoding = integers_and_encoding(old)
        weight = encoding.dequantize(integers).astype(np.float64)
        given = node.inputs[2] if len(node.inputs) > 2 else None
        bias = np.zeros(len(weight)) if given is None else constant_values(given)
        if bias is None:
            raise ValueError(f"Conv '{node.name}': its bias is no constant")
        shape = channel_shape(weight.ndim, 1)
        moved = bias + (weight * rest.reshape(shape)).sum(axis=tuple(range(1, weight.ndim)))
        if np.abs(ratio - 1).max() > 1e-6:
            weight = weight * ratio.reshape(shape)
            encoding = encoding_of_weight(weight, encoding.qtype, encoding.axis)
            integers = encoding.quantize(weight).astype(integers.dtype)
        one = Encoding(scale, np.asarray(0, np.int32), QuantType(8, signed=False, symmetric=False))
        roomy = room_for_bias(encoding, moved, one)
        if roomy is not encoding:
            integers = roomy.quantize(weight).astype(integers.dtype)
        zero = roomy.zero_point.astype(integers.dtype)
        name = node.inputs[1].name if node.inputs[1] is not None else "weight"
        node.replace_input_with(1, self._store(f"{name}_bytes", integers, roomy.scale, zero, node, roomy.axis))
        steps = np.asarray(scale * roomy.scale)
        integers = np.rint(moved / steps.astype(np.float64)).astype(np.int32)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        zero = np.zeros(steps.shape, np.int32)
        axis = 0 if steps.ndim else None
        node.replace_input_with(2, self._store(f"{node.name}_bias_bytes", integers, steps, zero, node, axis))
        for unread in {old, constant_dequantizer(given)}:
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


def _described(node: ir.Node) -> dict[str, Any]:
    """Type, scale and zero point of a QuantizeLinear or DequantizeLinear per tensor."""
    found = quantization_of(node)
    return {
        "type": (found.dtype or ir.DataType.UINT8).name.lower(),
        "scale": 1.0 if found.scale is None else float(found.scale),
        "zero_point": 0 if found.zero_point is None else int(found.zero_point),
    }


def _integer_outputs(inner: ir.Graph) -> tuple[dict[str, Any], list[str]]:
    """Hand out integers where a DequantizeLinear writes an output; what they mean, and the outputs that stay float."""
    described: dict[str, Any] = {}
    kept = []
    for index, output in enumerate(list(inner.outputs)):
        node, name = output.producer(), output.name or ""
        integers = node.inputs[0] if node is not None and is_op(node, DEQUANTIZE_OPS) else None
        if node is None or integers is None or constant_of(node.inputs[1]) is None or integers.is_graph_input():
            kept += [name] if output.dtype in (ir.DataType.FLOAT, None) else []
            continue
        described[name] = _described(node)
        integers.shape = integers.shape or output.shape
        integers.type = ir.TensorType(ir.DataType[described[name]["type"].upper()])
        inner.outputs[index] = integers
        output.name, integers.name = f"{name}_float", name
        if not output.uses():
            inner.remove(node, safe=True)
    return described, kept
