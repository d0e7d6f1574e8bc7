"""Conv and ConvTranspose."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.query import name_of

from ..orders import CHANNELS_LAST
from ..registry import Unsupported, operator
from ..step import Step, static_shape
from ..tensors import Tensor
from ..values import constant_array, weight_encoding
from .windows import Window, padded, spatial_image, window_of, write_spatial

__all__ = ["bias_of", "weights_of"]

LARGE = 2**14
"""Number of values from which a weight stays in integers in a layer that writes floats; as floats it has 64 kB."""

BIASES = {8: 32, 16: 64}
"""Width of activations -> width of the bias of the integer kernel."""


def weights_of(step: Step, index: int = 1) -> tuple[NDArray[Any], Encoding | None]:
    """Return the weight as the kernel takes it: integers and their encoding, or floats.

    A layer that reads integers and writes floats keeps its integer weight if that is large: LiteRT quantizes its input
    at run time. A small one becomes floats, which rounds nothing.

    Raises:
        Unsupported: it is computed.
    """
    found = weight_encoding(step.node.inputs[index])
    if found is not None and (step.is_integer or (step.is_hybrid and found[0].size >= LARGE)):
        return found
    values = constant_array(step.node.inputs[index])
    if values is None:
        raise Unsupported(f"its weight '{name_of(step.node.inputs[index])}' is computed, not a constant")
    return values.astype(np.float32), None


def bias_of(step: Step, source: Tensor, encoding: Encoding | None, channels: int, index: int = 2) -> Tensor:
    """Return the bias as the kernel takes it: integers of scale s_x * s_w, or floats; zeros if there is none."""
    given = step.constant(index)
    if given is None and index < len(step.node.inputs) and step.node.inputs[index] is not None:
        raise Unsupported(f"its bias '{name_of(step.node.inputs[index])}' is computed, not a constant")
    values = np.zeros(channels, np.float64) if given is None else np.resize(given.astype(np.float64), channels)
    name = f"{step.node.name}_bias"
    if source.encoding is None or encoding is None:
        return step.writer.constant(name, values.astype(np.float32))
    scale = np.asarray(source.encoding.scale * encoding.scale, np.float32)
    width = BIASES[source.encoding.qtype.bits]
    limits = np.iinfo(f"int{width}")
    integers = np.clip(np.rint(values / scale.astype(np.float64)), limits.min, limits.max)
    zero = np.zeros(scale.shape, np.int32)
    kind = Encoding(scale, zero, QuantType(32, signed=True, symmetric=True), 0 if scale.ndim else None)
    return step.writer.constant(name, integers.astype(f"int{width}"), kind)


@operator("Conv", kind="kernel", weight=1, fuses=True)
def conv(step: Step) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D; padding that is not TensorFlow's SAME becomes a PAD."""
    weight, encoding = weights_of(step)
    group, channels, kernel = step.integer("group", 1), weight.shape[0], weight.shape[2:]
    window, image = window_of(step, kernel), spatial_image(step)
    weight = weight.reshape(*weight.shape[:2], *window.kernel)
    depthwise = group > 1 and weight.shape[1] == 1 and group == image.shape[3]
    bias = bias_of(step, image, encoding, channels)
    out = step.shape[2:] if len(kernel) == 2 else (1, *step.shape[2:])
    same = window.is_same(image.shape[1:3], (out[0], out[1]))
    if window.is_padded and not same:
        image = padded(step, image, window)
    options = {**window.options(same), "dilationHFactor": window.dilation[0], "dilationWFactor": window.dilation[1]}
    arranged = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    if encoding is not None and encoding.axis is not None:
        encoding = Encoding(encoding.scale, encoding.zero_point, encoding.qtype, 3 if depthwise else 0)
    filters = step.writer.constant(name_of(step.node.inputs[1]), np.ascontiguousarray(arranged), encoding)
    if depthwise:
        options["depthMultiplier"] = channels // group
        write_spatial(step, "DEPTHWISE_CONV_2D", [image, filters, bias], "DepthwiseConv2DOptions", options)
    else:
        write_spatial(step, "CONV_2D", [image, filters, bias], "Conv2DOptions", options)


@operator("ConvTranspose", kind="kernel", weight=1, fuses=False)
def conv_transpose(step: Step) -> None:
    """TRANSPOSE_CONV, with a SLICE where ONNX's padding is not TensorFlow's SAME.

    Groups become one dense weight with zeros between them.
    """
    weight, encoding = weights_of(step)
    group, kernel = step.integer("group", 1), weight.shape[2:]
    if len(kernel) != 2 or any(step_size != 1 for step_size in step.integers("dilations", [1, 1])):
        raise Unsupported(f"its kernel has {len(kernel)} dimensions, or it is dilated")
    weight, encoding = _dense(weight, encoding, group)
    image = step.input(0, CHANNELS_LAST).tensor
    window = _transposed_window(step, kernel, image, static_shape(step.node.outputs[0]))
    out = (image.shape[0], *step.shape[2:], step.shape[1])
    full = (out[0], *((image.shape[1 + a] - 1) * window.stride[a] + kernel[a] for a in range(2)), out[3])
    same = _is_same(window, image, out)
    valid = not any(window.begin) and out == full
    filters = np.ascontiguousarray(weight.transpose(1, 2, 3, 0))
    inputs = [
        step.writer.numbers("shape", list(out if same or valid else full)),
        step.writer.constant(name_of(step.node.inputs[1]), filters, encoding),
        image,
        bias_of(step, image, encoding, weight.shape[1]),
    ]
    if same or valid:
        step.write("TRANSPOSE_CONV", inputs, CHANNELS_LAST, "TransposeConvOptions", window.options(same))
        return
    if any(window.begin[axis] + out[1 + axis] > full[1 + axis] for axis in range(2)):
        raise Unsupported("its output reaches beyond what its windows write (output_padding)")
    output = step.output(CHANNELS_LAST)
    whole = step.writer.like(f"{output.name}_whole", output, full)
    step.writer.emit("TRANSPOSE_CONV", inputs, whole, "TransposeConvOptions", window.options(False))
    bounds = [step.writer.numbers(part, values) for part, values in
              (("begin", [0, *window.begin, 0]), ("size", list(out)))]  # fmt: skip
    step.writer.emit("SLICE", [whole, *bounds], output, "SliceOptions")
    step.store(output, CHANNELS_LAST)


def _dense(weight: NDArray[Any], encoding: Encoding | None, group: int) -> tuple[NDArray[Any], Encoding | None]:
    """Return the weight (in, out, kh, kw) of one group, with its scales on axis 0 of the file's (out, kh, kw, in)."""
    if group > 1:
        rows, columns = weight.shape[0] // group, weight.shape[1]
        dense = np.zeros((weight.shape[0], columns * group, *weight.shape[2:]), weight.dtype)
        for index in range(group):
            inside = slice(index * rows, (index + 1) * rows)
            dense[inside, index * columns : (index + 1) * columns] = weight[inside]
        if encoding is not None and encoding.axis is not None:
            raise Unsupported("its weight has one scale per channel of a group")
        weight = dense
    if encoding is not None and encoding.axis is not None:
        encoding = Encoding(encoding.scale, encoding.zero_point, encoding.qtype, 0)
    return weight, encoding


def _transposed_window(step: Step, kernel: tuple[int, ...], image: Tensor, shape: tuple[int, ...]) -> Window:
    strides = step.integers("strides", [1, 1])
    begin = step.integers("pads", [0, 0, 0, 0])[:2]
    if step.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or step.integers("output_shape"):
        extra = step.integers("output_padding", [0, 0])
        total = [
            strides[axis] * (image.shape[1 + axis] - 1) + extra[axis] + kernel[axis] - shape[2 + axis]
            for axis in range(2)
        ]
        upper = step.text("auto_pad", "NOTSET") == "SAME_UPPER"
        begin = [max(size, 0) // 2 if upper else max(size, 0) - max(size, 0) // 2 for size in total]
    return Window((kernel[0], kernel[1]), (strides[0], strides[1]), (1, 1), (begin[0], begin[1]), (0, 0))


def _is_same(window: Window, image: Tensor, out: tuple[int, ...]) -> bool:
    """Return True if TensorFlow's SAME gives the output of ONNX."""
    for axis in range(2):
        size = image.shape[1 + axis]
        total = max((size - 1) * window.stride[axis] + window.kernel[axis] - out[1 + axis], 0)
        if out[1 + axis] != size * window.stride[axis] or window.begin[axis] != total // 2:
            return False
    return True
