"""Rules on shapes, ranks, constants and operators."""

from collections.abc import Iterator

import onnx_ir as ir

from dfq_deploy.checking.registry import Problem, rule
from dfq_deploy.checking.view import QLINEAR, Kernel, View, name
from dfq_deploy.graph.expanded import expanded_concats
from dfq_deploy.graph.inputs import example_shape, input_values, shown_shape
from dfq_deploy.graph.operators import QDQ_OPS, is_op, operator_of
from dfq_deploy.graph.query import constant_of
from dfq_deploy.targets.target import Target

__all__ = [
    "constant_weight",
    "expanded_concat",
    "left_to_cpu",
    "newer_chip",
    "operators",
    "static_sample",
    "static_shape",
    "token_product",
    "two_dimensional",
]

QLINEAR_CONV = frozenset({"QLinearConv", "com.microsoft::QLinearConv"})

CONVOLUTIONS = QLINEAR_CONV | {"Conv", "ConvTranspose"}

POOLS = frozenset({"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "com.microsoft::QLinearAveragePool"})

FIX = "fix the size, e.g. dfq-deploy calibrate --input-shape NAME:1,3,224,224"


@rule("static-shape", FIX)
def static_shape(view: View, _: Target) -> Iterator[Problem]:
    """No dimension is dynamic.

    QNN: "does not support models with dynamic shapes (e.g., a dynamic batch size)" (QNN-ExecutionProvider.md); NNAPI:
    dynamic input shapes are not supported (nnapi_builtin/builders/impl/base_op_builder.cc).
    """
    open_inputs = [value for value in input_values(view.model) if value.shape is None or not value.shape.is_static()]
    for value in open_inputs:
        yield "input", str(value.name), f"its shape is {shown_shape(value)} (--input-shape {example_shape(value)})"
    for node in [] if open_inputs else view.nodes:
        # Every shape after the first dynamic one is dynamic too.
        if any(value is not None and _is_open(value) for value in node.inputs):
            continue
        for value in node.outputs:
            if value.name and _is_open(value):
                yield operator_of(node), name(node), f"the shape of its output '{value.name}' is {shown_shape(value)}"


def _is_open(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT and (value.shape is None or not value.shape.is_static())


@rule("static-sample", FIX)
def static_sample(view: View, _: Target) -> Iterator[Problem]:
    """Only the batch is dynamic: XNNPACK creates its kernels for fixed C, H and W (xnnpack/nn/conv_base.cc)."""
    for value in input_values(view.model):
        if value.shape is None or not all(isinstance(dim, int) for dim in list(value.shape)[1:]):
            yield "input", str(value.name), f"its shape is {shown_shape(value)} (--input-shape {example_shape(value)})"


@rule("two-dimensional", "no change needed: it runs on ONNX Runtime's own kernels instead")
def two_dimensional(view: View, _: Target) -> Iterator[Problem]:
    """Convolutions and poolings have two spatial dimensions.

    NNAPI: "Only 2D Conv is supported", "Only 2D Pool is supported" (nnapi_supported_ops.md); XNNPACK: "we only support
    2D (4 dims with batch and channel)" (xnnpack/nn/conv_base.cc).
    """
    for node in view.nodes:
        if not is_op(node, POOLS | CONVOLUTIONS):
            continue
        value = node.inputs[0]
        rank = None if value is None or value.shape is None else len(value.shape)
        if rank is not None and rank != 4:
            yield node.op_type, name(node), f"its input has {rank} dimensions, not 4"


@rule("constant-weight", "export the model with its weights as initializers")
def constant_weight(view: View, _: Target) -> Iterator[Problem]:
    """The weight and the bias of a convolution are constants.

    NNAPI: "Weights and bias should be constant" (nnapi_supported_ops.md); XNNPACK the same (xnnpack/nn/conv_base.cc).
    """
    for kernel in view.kernels:
        if kernel.operator in ("Conv", "ConvTranspose"):
            for what in _computed(kernel):
                yield kernel.node.op_type, name(kernel.node), f"its {what} is computed"


def _computed(kernel: Kernel) -> Iterator[str]:
    if not kernel.has_weight and (not is_op(kernel.node, QLINEAR) or kernel.weight is None):
        yield "weight"
    index = 8 if is_op(kernel.node, QLINEAR_CONV) else 2
    bias = kernel.node.inputs[index] if len(kernel.node.inputs) > index else None
    is_constant = kernel.bias is not None and kernel.bias.constant
    if bias is not None and constant_of(bias) is None and not is_constant:
        yield "bias"


@rule("operator", "rewrite it with supported operators, or use a runtime that runs the rest elsewhere")
def operators(view: View, target: Target) -> Iterator[Problem]:
    """The runtime supports every operator of the file.

    QNN: the list "Supported ONNX operators" of QNN-ExecutionProvider.md (onnxruntime-qnn 2.7), without control flow.
    """
    supported = (target.whole_ops or frozenset()) | QDQ_OPS
    for node in view.nodes:
        if not is_op(node, supported) and target.whole_ops is not None:
            yield operator_of(node), name(node), f"{target.runtime} has no {operator_of(node)}"


@rule("left-to-cpu", "rewrite it with supported operators, or accept that the graph is split there")
def left_to_cpu(view: View, target: Target) -> Iterator[Problem]:
    """The accelerator has every operator: ONNX Runtime runs the others on the CPU, and copies tensors in between.

    NNAPI: nnapi_supported_ops.md of onnxruntime.tools.mobile_helpers, from which its usability checker counts the parts
    of a graph. A Constant is no step: ONNX Runtime makes it an initializer.
    """
    for node in view.nodes:
        if target.accelerated_ops is not None and not is_op(node, target.accelerated_ops | {"Constant"}):
            yield (
                operator_of(node),
                name(node),
                f"{target.runtime.partition(',')[0]} leaves {operator_of(node)} to the CPU",
            )


@rule("expanded-concat", FIX)
def expanded_concat(view: View, target: Target) -> Iterator[Problem]:
    """No Concat joins an Expand of open size with what a convolution computes.

    OpenVINO 2026.4 then adds a wrong bias in the convolution, if Q follows it (benchmarks/runtimes.py, vit_cifar10).
    """
    for node in () if target.expands else expanded_concats(view.model.graph):
        yield "Concat", name(node), "it joins an Expand of open size, which makes OpenVINO compute a wrong bias"


@rule("newer-chip", "compile for a newer chip, e.g. dfq-deploy export --option soc_model=60, or rewrite it")
def newer_chip(view: View, target: Target) -> Iterator[Problem]:
    """Every chip of the runtime has the operator.

    QNN: the simulator of onnxruntime-qnn 2.7 refuses these operators for its default chip.
    """
    for node in view.nodes:
        if is_op(node, target.newer_ops):
            yield operator_of(node), name(node), "QNN's default chip cannot run it, soc models 36, 43 and 60 can"


@rule("token-product", "try the file in RKNN-Toolkit2, or compile it for a chip that computes floats")
def token_product(view: View, _: Target) -> Iterator[Problem]:
    """A MatMul reads rows, not sequences of them.

    RKNN-Toolkit2 2.5 refused that of the one transformer that was tried for chips without floats, although both its
    sides were quantized. Which form it refuses is not known.
    """
    for kernel in view.kernels:
        value = kernel.node.inputs[0]
        shape = None if value is None else value.shape
        if kernel.operator == "MatMul" and shape is not None and len(shape) > 2:
            yield "MatMul", name(kernel.node), "RKNN-Toolkit2 refused that of a transformer for chips without floats"
