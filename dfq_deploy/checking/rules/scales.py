"""Rules on scales: constant, positive, shape, axis, bias scales."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dfq_deploy.checking.registry import Problem, rule
from dfq_deploy.checking.view import QLINEAR, Kernel, View, name
from dfq_deploy.graph.operators import QUANTIZE_OPS, is_op
from dfq_deploy.graph.query import constant_of, weight_axis
from dfq_deploy.quantization.qdq_reader import Quantization
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums
from dfq_deploy.targets.target import Target

__all__ = [
    "channel_axis",
    "constant_parameters",
    "fixed_scale",
    "float_bias",
    "integer_bias",
    "moved_scale",
    "per_channel_weight",
    "per_tensor_activation",
    "positive_scale",
    "saturating_sums",
]

TOLERANCE = 1e-4
"""Relative tolerance of a bias scale: tools compute the product in float32 or in float64."""


@rule("constant-parameters", "store scale and zero point as initializers")
def constant_parameters(view: View, _: Target) -> Iterator[Problem]:
    """Scales and zero points are constants.

    NNAPI: "All quantization scales and zero points should be constant" (tools/mobile_helpers/nnapi_supported_ops.md);
    XNNPACK and QNN read them when the session is made; ONNX Runtime fuses no kernel otherwise; TensorRT: build time.
    """
    for entry in view.quantizations:
        for what, numbers in (("scale", entry.scale), ("zero point", entry.zero_point)):
            if numbers is None:
                yield entry.node.op_type, name(entry.node), f"its {what} is computed"


@rule("positive-scale", "quantize the tensor again: its range was empty or not finite")
def positive_scale(view: View, _: Target) -> Iterator[Problem]:
    """Scales are finite and positive (ONNX, QuantizeLinear; TensorRT refuses others when it builds)."""
    for entry in view.quantizations:
        if entry.scale is not None and not (np.isfinite(entry.scale).all() and (entry.scale > 0).all()):
            wrong = entry.scale.reshape(-1)
            shown = wrong[~(np.isfinite(wrong) & (wrong > 0))][0]
            yield entry.node.op_type, name(entry.node), f"its scale is {shown:g}"


@rule("per-tensor-activation", "quantize the activation with one scale")
def per_tensor_activation(view: View, _: Target) -> Iterator[Problem]:
    """An activation has one scale: no runtime here has kernels for more (ONNX Runtime, QLinearConv; TensorRT docs)."""
    for entry in view.activations():
        if entry.axis is not None and entry.scale is not None:
            yield entry.node.op_type, name(entry.node), f"an activation with {entry.scale.size} scales"


@rule("per-channel-weight", "quantize the weight with one scale")
def per_channel_weight(view: View, target: Target) -> Iterator[Problem]:
    """A weight has several scales only where the kernel takes them.

    QNN: Conv and ConvTranspose (quantization/execution_providers/qnn); NNAPI: Conv with s8, from Android 10 on
    (HasValidQuantizationScales in the provider). XNNPACK: Conv with s8 (IsValidQuantConv in xnnpack/nn/conv_base.cc);
    nodes that it leaves to ONNX Runtime's own kernels may have several.
    """
    for kernel in view.kernels:
        weight = kernel.weight
        if weight is not None and weight.scale is not None and weight.scale.size > 1:
            if kernel.operator in target.channel_ops:
                continue
            problem = f"its weight has {weight.scale.size} scales; {target.runtime} takes one"
            yield kernel.node.op_type, name(kernel.node), problem


@rule("channel-axis", "put the scales on the axis of the output channels")
def channel_axis(view: View, target: Target) -> Iterator[Problem]:
    """The scales of a weight belong to its output channels.

    Axis 0 of Conv, 1 of ConvTranspose, the columns of a product (TensorRT docs; QNN: only Conv (0) and ConvTranspose
    (1); ONNX Runtime fuses no other).
    """
    for kernel in view.kernels:
        weight = kernel.weight
        if weight is None or weight.axis is None or kernel.operator not in target.channel_ops:
            continue
        if is_op(kernel.node, QLINEAR):
            continue  # the operator fixes the axis
        shape = None if kernel.node.inputs[1] is None else kernel.node.inputs[1].shape
        rank = len(shape) if shape is not None else 4 if "Conv" in kernel.operator else 2
        expected = weight_axis(kernel.node) + (rank - 2 if kernel.operator == "MatMul" else 0)
        if not rank or weight.axis % rank != expected:
            problem = f"its weight's scales lie on axis {weight.axis}, the output channels on {expected}"
            yield kernel.node.op_type, name(kernel.node), problem


@rule("saturating-sums", "calibrate for this target; ONNX Runtime adds exactly with session.x64quantprecision=1")
def saturating_sums(view: View, _: Target) -> Iterator[Problem]:
    """Two neighboring weights of one sign add up to 128 at most: more saturates on x86 processors without VNNI.

    There the kernels of ONNX Runtime and OpenVINO add two products of u8 and s8 in 16 bits
    (:mod:`dfq_deploy.runtime.processor`).
    """
    for kernel in view.kernels:
        activation, weight = kernel.activation, kernel.weight
        if activation is None or weight is None or weight.kind != "s8" or activation.kind not in ("u8", "s8"):
            continue
        linear, read = is_op(kernel.node, QLINEAR), kernel.node.inputs[1]
        if not linear and (read is None or read.producer() is not weight.node):
            continue  # transposed between: the order of the kernel is another
        integers = constant_of(weight.node.inputs[3 if linear else 0])
        sums = None if integers is None else neighbor_sums(kernel.node, integers.numpy())
        if sums is not None and sums.max() > LARGEST_SUM:
            yield kernel.node.op_type, name(kernel.node), f"two neighboring weights add up to {sums.max()}"


@rule("integer-bias", "store the bias as int32 with zero point 0 and the scale of the activation times the weight's")
def integer_bias(view: View, _: Target) -> Iterator[Problem]:
    """A bias is int32, with the scale of the integer products.

    ONNX QLinearConv: scale x_scale * w_scale, zero point 0; XNNPACK: TryGetConvBiasDtype in
    xnnpack/nn/conv_base.cc; NNAPI (CONV_2D: bias scale equals input scale times filter scale); QNN the same.
    """
    for kernel in view.kernels:
        problem = _bias_problem(kernel)
        if problem is not None:
            yield kernel.node.op_type, name(kernel.node), problem


def _bias_problem(kernel: Kernel) -> str | None:
    node, activation, weight = kernel.node, kernel.activation, kernel.weight
    has_bias = not is_op(node, QLINEAR) and len(node.inputs) > 2 and node.inputs[2] is not None
    if not has_bias or activation is None or weight is None:
        return None
    bias = kernel.bias
    if bias is None or bias.kind != "s32":
        return f"its bias is {'float' if bias is None else bias.kind}"
    if bias.zero_point is not None and np.any(bias.zero_point):
        return "its bias has a zero point"
    if bias.scale is None or activation.scale is None or weight.scale is None:
        return None
    expected = np.ravel(activation.scale).astype(np.float64)[:1] * np.ravel(weight.scale)
    actual = np.ravel(bias.scale).astype(np.float64)
    if actual.size not in (1, expected.size) or not np.allclose(actual, expected, rtol=TOLERANCE, atol=0):
        return f"its bias has scale {actual[0]:.6g}, not the product of activation and weight scale {expected[0]:.6g}"
    return None


@rule("float-bias", "leave the bias in float")
def float_bias(view: View, _: Target) -> Iterator[Problem]:
    """A bias stays float.

    TensorRT adds it in float (its guide on Q/DQ placement; ModelOpt quantizes none either).
    """
    for kernel in view.kernels:
        if kernel.bias is not None:
            yield kernel.node.op_type, name(kernel.node), f"its bias is {kernel.bias.kind}"


@rule("fixed-scale", "calibrate for this target, or accept that these integers are converted once more")
def fixed_scale(view: View, target: Target) -> Iterator[Problem]:
    """Sigmoid, Softmax and Tanh are quantized with the scale that their kernels write.

    TensorFlow Lite, quantization specification: LOGISTIC and SOFTMAX 1/256 with the smallest zero point, TANH 1/128
    with 0; of 16 bits 1/32768.
    """
    for node in view.nodes:
        if not is_op(node, target.fixed_outputs):
            continue
        low, high = target.fixed_outputs[node.op_type]
        for entry in _quantizers(view, node.outputs[0]):
            wide = entry.kind in ("s16", "u16")
            step = max(-low, high) / 2**15 if wide else (high - low) / 2**8
            actual = None if entry.scale is None else float(np.ravel(entry.scale)[0])
            if actual is not None and not np.isclose(actual, step, rtol=TOLERANCE, atol=0):
                yield node.op_type, name(node), f"its output has scale {actual:.6g}, its kernel writes {step:.6g}"


@rule("moved-scale", "give its inputs and its output one scale, or accept that the integers are converted once more")
def moved_scale(view: View, target: Target) -> Iterator[Problem]:
    """What chooses or moves values has one scale for inputs and outputs.

    TensorFlow Lite, quantization specification: CONCATENATION, MAX_POOL_2D, AVERAGE_POOL_2D, PAD, RESIZE, RESHAPE and
    their like.
    """
    for node in view.nodes:
        if not is_op(node, target.passing_ops):
            continue
        read = [view.by_node[producer] for producer in node.predecessors() if producer in view.by_node]
        for entry in _quantizers(view, node.outputs[0]):
            different = [other for other in read if not other.constant and not other.same_scale(entry)]
            if different:
                problem = f"'{name(different[0].node)}' and '{name(entry.node)}' have different scales"
                yield node.op_type, name(node), problem


def _quantizers(view: View, value: ir.Value) -> list[Quantization]:
    """Return the quantizations of ``value``."""
    return [entry for entry in view.quantizations if entry.node.inputs[0] is value and is_op(entry.node, QUANTIZE_OPS)]
