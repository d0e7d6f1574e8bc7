"""Rules on integer types, signs, zero points and opsets."""

from collections.abc import Iterable, Iterator

import numpy as np

from dfq_deploy.checking.registry import Problem, rule
from dfq_deploy.checking.view import View, name
from dfq_deploy.graph.operators import WEIGHT_ONLY_OPS, is_integer_op, is_op, is_standard, operator_of
from dfq_deploy.targets.target import Target

__all__ = [
    "activation_type",
    "newest_opset",
    "opset",
    "qdq_format",
    "symmetric_channels",
    "type_pair",
    "weight_type",
    "zero_point",
]

SINCE = {"s4": 21, "u4": 21, "s16": 21, "u16": 21}
"""The opset of ai.onnx from which Q and DQ support a type; those of com.microsoft support 4 and 16 bits in any."""

CHANNEL_AXIS_OPSET = 13


@rule("activation-type", "quantize the activations to a type that the runtime supports")
def activation_type(view: View, target: Target) -> Iterator[Problem]:
    """Activations have an integer type that the runtime's kernels support.

    ONNX Runtime: QLinearConv takes u8 and s8 (docs/OperatorKernels.md); XNNPACK u8 and s8 (xnnpack/nn/conv_base.cc);
    NNAPI u8 alone, int8 QLinearConv is refused (nnapi_builtin/builders/helper.cc, onnxruntime#18571); QNN u8 and u16
    (QNN-ExecutionProvider.md). TensorRT: signed INT8 (docs, quantized types, schemes).
    """
    accepted = {activation for activation, _ in target.pairs}
    for entry in view.activations():
        if entry.kind not in accepted:
            yield entry.node.op_type, name(entry.node), f"its activation is {entry.kind}, not {_listed(accepted)}"


@rule("weight-type", "quantize the weight to a type that the runtime supports")
def weight_type(view: View, target: Target) -> Iterator[Problem]:
    """Weights have an integer type that the runtime's kernels support (sources as for activation-type)."""
    accepted = {weight for _, weight in target.pairs}
    for kernel in view.kernels:
        if kernel.weight is not None and kernel.weight.kind not in accepted:
            yield kernel.node.op_type, name(kernel.node), f"its weight is {kernel.weight.kind}, not {_listed(accepted)}"


@rule("type-pair", "quantize both to a pair of types that the runtime supports")
def type_pair(view: View, target: Target) -> Iterator[Problem]:
    """Activation and weight have a pair of types that one kernel supports.

    XNNPACK takes no u8 with s8 (GetConvCompType in xnnpack/nn/conv_base.cc); ONNX Runtime's CPU kernels no s8 with u8
    (docs/performance/model-optimizations/quantization.md).
    """
    sides = [{pair[side] for pair in target.pairs} for side in (0, 1)]
    for kernel in view.kernels:
        if kernel.activation is None or kernel.weight is None:
            continue
        pair = (str(kernel.activation.kind), str(kernel.weight.kind))
        if pair not in target.pairs and pair[0] in sides[0] and pair[1] in sides[1]:
            accepted = _listed("".join(entry) for entry in target.pairs)
            yield kernel.node.op_type, name(kernel.node), f"{''.join(pair)} (activation, weight) is not {accepted}"


@rule("zero-point", "quantize symmetrically, with zero point 0")
def zero_point(view: View, _: Target) -> Iterator[Problem]:
    """Every zero point is 0.

    TensorRT: symmetric quantization only, no zero point (docs, quantized types, schemes; onnx-tensorrt
    docs/operators.md: x_zero_point must be zero).
    """
    for entry in view.quantizations:
        if entry.zero_point is not None and np.any(entry.zero_point):
            shown = entry.zero_point.reshape(-1)[np.flatnonzero(entry.zero_point)[0]]
            yield entry.node.op_type, name(entry.node), f"its zero point is {shown}, not 0"


@rule("symmetric-channels", "quantize weights of one scale per channel to signed integers with zero point 0")
def symmetric_channels(view: View, _: Target) -> Iterator[Problem]:
    """Weights with a scale per channel are signed, and their zero points are 0.

    XNNPACK: per-channel u8 is not supported, and of s8 only zero point 0 (GetTensorQuantType in xnnpack/detail/
    utils.cc); NNAPI: a type of its own, QUANT8_SYMM_PER_CHANNEL; QNN: weight_symmetric for signed weights
    (quantization/execution_providers/qnn/quant_config.py); ONNX Runtime on CPUs: one zero point for all channels.
    """
    for kernel in view.kernels:
        weight = kernel.weight
        if weight is None or weight.axis is None:
            continue
        if str(weight.kind).startswith("u"):
            yield kernel.node.op_type, name(kernel.node), f"its weight is {weight.kind} with one scale per channel"
        elif weight.zero_point is not None and np.any(weight.zero_point):
            yield kernel.node.op_type, name(kernel.node), "zero points of its weight's channels are not 0"


@rule("opset", "export with a newer opset, or use another type")
def opset(view: View, _: Target) -> Iterator[Problem]:
    """The opset supports the types and axes of Q and DQ.

    A channel axis needs opset 13, 4 and 16 bits need opset 21 (ONNX, Changelog of QuantizeLinear and DequantizeLinear).
    """
    for entry in view.quantizations:
        if not is_standard(entry.node):
            continue
        if entry.axis is not None and view.opset < CHANNEL_AXIS_OPSET:
            needed, what = CHANNEL_AXIS_OPSET, "a scale per channel"
        else:
            needed, what = SINCE.get(str(entry.kind), 0), str(entry.kind)
        if view.opset < needed:
            yield entry.node.op_type, name(entry.node), f"{what} needs opset {needed}; the file has {view.opset}"


@rule("newest-opset", "export with an older opset, or update the runtime")
def newest_opset(view: View, target: Target) -> Iterator[Problem]:
    """The runtime loads the opset of the file.

    onnxruntime-web 1.30 refuses opset 27: "ONNX Runtime only guarantees support for models stamped with official
    released onnx opset versions" (core/graph/model_load_utils.h).
    """
    if target.newest_opset is not None and view.opset > target.newest_opset:
        newest = f"{target.runtime} loads up to {target.newest_opset}"
        yield "model", view.place, f"its opset is {view.opset}, and {newest}"


@rule("qdq-format", "quantize in the QDQ format: QuantizeLinear and DequantizeLinear around float operators")
def qdq_format(view: View, _: Target) -> Iterator[Problem]:
    """No operator has integer inputs and outputs itself.

    TensorRT's parser supports QuantizeLinear and DequantizeLinear, but not QLinearConv and the like (onnx-tensorrt
    docs/operators.md).
    """
    for node in view.nodes:
        if is_integer_op(node) or is_op(node, WEIGHT_ONLY_OPS):
            yield operator_of(node), name(node), "the runtime has no such operator"


def _listed(kinds: Iterable[str]) -> str:
    return " or ".join(sorted(kinds))
