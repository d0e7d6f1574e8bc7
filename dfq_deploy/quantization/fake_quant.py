"""Fake quantization in torch with fixed encodings."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding, QuantType, channel_shape
from dfq_deploy.graph.inputs import ExtraInputs
from dfq_deploy.graph.query import constant_of, weighted_nodes
from dfq_deploy.plugins.contracts import Student
from dfq_deploy.twin import Hook
from dfq_deploy.twin.teacher import teacher_of

__all__ = ["bias_encodings", "fake_quantizers", "student_function"]

BIAS = QuantType(32, signed=True, symmetric=True)


def bias_encodings(model: ir.Model, encodings: Mapping[str, Encoding]) -> dict[str, Encoding]:
    """Compute the encodings of the constant biases of quantized layers: int32 of scale s_x * s_w, as in the file.

    A bias that several layers read has the scale of the first.

    Returns:
        name of the bias -> encoding.
    """
    encodings_of_biases: dict[str, Encoding] = {}
    for node in weighted_nodes(model):
        names = [None if value is None else value.name for value in node.inputs]
        if len(names) < 3 or names[2] is None or constant_of(node.inputs[2]) is None:
            continue
        activation, weight = encodings.get(names[0] or ""), encodings.get(names[1] or "")
        if activation is not None and weight is not None:
            scale = np.asarray(activation.scale * weight.scale, np.float32)
            axis = None if weight.axis is None else 0
            encodings_of_biases.setdefault(names[2], Encoding(scale, np.zeros(scale.shape, np.int32), BIAS, axis))
    return encodings_of_biases


def student_function(model: ir.Model, encodings: Mapping[str, Encoding], extra: ExtraInputs, device: str) -> Student:
    """Return the quantized network as a function for synthesis: (N, C, H, W) on ``device`` -> scores (N, K).

    Gradients pass to the images.

    Args:
        model: the folded and lowered model to which ``encodings`` belong.
        extra: the other inputs of the model, fixed to their first rows.
    """
    hooks = fake_quantizers({**encodings, **bias_encodings(model, encodings)}, device)
    twin = teacher_of(model, extra, device)

    def student(images: Tensor) -> Tensor:
        outputs = twin.run({twin.input_names[0]: images}, hooks=hooks)
        return outputs[twin.output_names[0]].flatten(1).float()

    return student


def fake_quantizers(encodings: Mapping[str, Encoding], device: torch.device | str = "cpu") -> dict[str, Hook]:
    """Return hooks that quantize and dequantize every tensor in ``encodings``, weights included.

    ``twin.run(feeds, hooks=fake_quantizers(encodings))`` computes the student. Gradients pass unchanged inside the
    range (straight-through estimator) and are zero outside of it.
    """
    return {name: _fake_quantizer(encoding, torch.device(device)) for name, encoding in encodings.items()}


def _fake_quantizer(encoding: Encoding, device: torch.device) -> Hook:
    if encoding.qtype.floating:
        return _float8_quantizer(encoding, device)
    low, high = encoding.qtype.qmin, encoding.qtype.qmax
    if encoding.axis is None:
        scale, zero = float(encoding.scale), int(encoding.zero_point)
        return lambda values: torch.fake_quantize_per_tensor_affine(values, scale, zero, low, high)
    axis = encoding.axis
    scales = torch.from_numpy(encoding.scale).to(device)
    zeros = torch.from_numpy(encoding.zero_point).to(device)

    def per_channel(values: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(values, scales, zeros, axis, low, high)

    return per_channel


def _float8_quantizer(encoding: Encoding, device: torch.device) -> Hook:
    limit = encoding.qtype.qmax

    def round_trip(values: Tensor) -> Tensor:
        shape = channel_shape(values.ndim, encoding.axis)
        scale = torch.from_numpy(encoding.scale.reshape(shape if encoding.axis is not None else ())).to(device)
        scaled = (values / scale).clamp(-limit, limit)
        rounded = scaled.detach().to(torch.float8_e4m3fn).to(values.dtype)
        return (scaled + (rounded - scaled).detach()) * scale

    return round_trip
