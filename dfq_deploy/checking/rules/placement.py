"""Rules on the placement of Q and DQ."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dfq_deploy.checking.registry import Problem, rule
from dfq_deploy.checking.view import QLINEAR, View, name
from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QDQ_OPS, QUANTIZE_OPS, is_integer_op, is_op, operator_of
from dfq_deploy.graph.query import constant_of
from dfq_deploy.quantization.kept_float import kept_float
from dfq_deploy.quantization.placement.policies import count_weighted_before, residual_branch
from dfq_deploy.quantization.placement.predicates import obstacle
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.quantization.qdq_reader import Quantization, dequantizers_of
from dfq_deploy.targets.target import Target

__all__ = [
    "concat_scale",
    "float_output",
    "float_product",
    "float_tensor",
    "float_weighted",
    "quantized_output",
    "residual",
    "shared_int8",
    "split_activation",
]

ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Softplus"}
)
"""Activation functions that runtimes fold into the weighted operator before them."""

PARAMETERS = {"Clip": (1, 2), "Resize": (1, 2), "Pad": (2,)}
"""Indices of inputs that may be float although everything else is quantized."""


@rule("float-weighted", "quantize it, or accept that the layer runs in float")
def float_weighted(view: View, target: Target) -> Iterator[Problem]:
    """A weighted operator that the runtime has in integers reads a quantized activation and a quantized weight.

    Exceptions: spectral front ends (:mod:`dfq_deploy.quantization.placement.spectral`), matrix-vector products for
    TensorRT (ModelOpt leaves them out too), nodes without an integer kernel
    (:func:`dfq_deploy.quantization.placement.predicates.obstacle`), and layers with a float weight of which the file
    says that they were kept so (:mod:`dfq_deploy.quantization.kept_float`), though another layer may want Q and DQ at
    their input. A quantized weight with a float activation is always a violation: the layer runs in float and
    dequantizes its weight first.
    """
    has_float_input = any(value.dtype == ir.DataType.FLOAT for value in input_values(view.model))
    front_ends = spectral_nodes(view.model) if has_float_input else {}
    kept = kept_float(view.model.metadata_props)
    for kernel in view.kernels:
        if is_op(kernel.node, QLINEAR) or not kernel.has_weight or kernel.node in front_ends:
            continue
        missing = [
            what
            for what, quantization in (("input", kernel.activation), ("weight", kernel.weight))
            if quantization is None
        ]
        weight_only = kernel.weight is not None and kernel.activation is None
        if kernel.weight is None and kernel.node.name in kept:
            continue
        if missing and (weight_only or obstacle(kernel.node, target) is None):
            yield kernel.node.op_type, name(kernel.node), f"its {' and '.join(missing)} is float"


@rule("concat-scale", "give all its inputs and its output one scale")
def concat_scale(view: View, _: Target) -> Iterator[Problem]:
    """All inputs of a quantized Concat have one scale.

    TensorRT moves Q before the Concat, and joins integers without rescaling them (TensorRT#4366, #3861).
    """
    for node in view.nodes:
        after = [entry for entry in view.quantizations if entry.node.inputs[0] is node.outputs[0]]
        if not is_op(node, "Concat") or not after:
            continue
        before = [view.by_node[producer] for producer in node.predecessors() if producer in view.by_node]
        different = [entry for entry in before if not entry.same_scale(after[0])]
        if different:
            yield (
                "Concat",
                name(node),
                f"'{name(different[0].node)}' has {_scale(different[0])}, its output {_scale(after[0])}",
            )


@rule("residual-branch", "put Q and DQ on that input of the Add")
def residual(view: View, _: Target) -> Iterator[Problem]:
    """The branch of an Add that no convolution writes is quantized, so that convolution and Add become one kernel.

    TensorRT: else the Add runs in float, and the convolution writes float for it (TensorRT#1992, #3861; NVIDIA's
    TensorFlow toolkit adds the same special case).
    """
    for node in view.nodes:
        branch = residual_branch(node, view.quantized_nodes)
        if branch is not None and branch.producer() not in view.by_node:
            yield "Add", name(node), f"its input '{branch.name}' is float, the other one a quantized layer's output"


@rule("quantized-output", "remove Q and DQ, and insert them at the inputs of weighted operators")
def quantized_output(view: View, _: Target) -> Iterator[Problem]:
    """The output of a weighted operator is quantized only if a weighted operator or the branch of an Add reads it.

    TensorRT's guide on Q/DQ placement: quantize the inputs of weighted operators, and not their outputs.
    """
    for kernel in view.kernels:
        if is_op(kernel.node, QLINEAR):
            continue
        for dequantize in dequantizers_of(kernel.node.outputs[0]):
            readers = [use.node for use in dequantize.outputs[0].uses()]
            if any(reader in view.weighted or is_op(reader, ACTIVATIONS) for reader in readers):
                continue
            if not any(is_op(reader, "Add") and _is_branch(kernel.node, reader, view) for reader in readers):
                yield kernel.node.op_type, name(kernel.node), f"'{name(dequantize)}' follows it without such a consumer"


def _is_branch(node: ir.Node, add: ir.Node, view: View) -> bool:
    """Return True if ``node`` writes the operand of the Add that has to be quantized.

    That is the case if the other operand is float, or the output of the main path.
    """
    sides = [value.producer() for value in add.inputs if value is not None]
    others = [side for side in sides if side is not None and view.source(side) is not node]
    if not others or others[0] not in view.by_node:
        return True
    other = view.source(others[0])
    return other in view.weighted and count_weighted_before(node, view.quantized_nodes) <= count_weighted_before(
        other, view.quantized_nodes
    )


@rule("split-activation", "insert Q and DQ after the activation function")
def split_activation(view: View, _: Target) -> Iterator[Problem]:
    """No Q and DQ stand between a weighted operator and its activation function: TensorRT fuses both."""
    for kernel in view.kernels:
        for dequantize in dequantizers_of(kernel.node.outputs[0]):
            for reader in (use.node for use in dequantize.outputs[0].uses()):
                if is_op(reader, ACTIVATIONS):
                    problem = f"'{name(dequantize)}' stands between it and {reader.op_type} '{name(reader)}'"
                    yield kernel.node.op_type, name(kernel.node), problem


@rule("shared-int8", "quantize activations to u8")
def shared_int8(view: View, _: Target) -> Iterator[Problem]:
    """No s8 activation is read more than once.

    On x86 ONNX Runtime rewrites s8 activations to u8, its faster kernels, but not one that several operators read:
    their convolutions stay float (measured on a residual network: 9 of 22 convolutions in integers).
    """
    for entry in view.activations():
        if entry.kind != "s8" or not is_op(entry.node, QUANTIZE_OPS):
            continue
        consumers = [use.node for use in entry.node.outputs[0].uses()]
        readers = sum(len(consumer.outputs[0].uses()) if is_op(consumer, QDQ_OPS) else 1 for consumer in consumers)
        if readers > 1:
            yield "QuantizeLinear", name(entry.node), f"{readers} operators read its s8 output"


@rule("float-tensor", "quantize it, or use a runtime that also computes in float")
def float_tensor(view: View, _: Target) -> Iterator[Problem]:
    """Every operator reads DQ and writes Q; only a Relu or Clip may stand before the Q.

    QNN's HTP backend runs quantized graphs; an operator without Q and DQ around it falls back to the CPU, or to fp16
    (QNN-ExecutionProvider.md, session.disable_cpu_ep_fallback).
    """
    for node in view.nodes:
        if is_op(node, QDQ_OPS) or is_integer_op(node):
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT or index in PARAMETERS.get(operator_of(node), ()):
                continue
            producer = value.producer()
            clipped = is_op(node, ("Relu", "Clip")) and producer is not None
            if not clipped and (producer is None or not is_op(producer, DEQUANTIZE_OPS)):
                what = "constant" if constant_of(value) is not None else "input"
                yield operator_of(node), name(node), f"its {what} '{value.name}' is float"
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and not _is_quantized(value):
                yield operator_of(node), name(node), f"its output '{value.name}' is float"


@rule("float-output", "quantize what the layer writes, or use a chip that also computes in float")
def float_output(view: View, target: Target) -> Iterator[Problem]:
    """What a weighted operator writes is quantized, behind the activation and the moves that follow.

    RKNN-Toolkit2 2.5 refuses a layer that writes float for RV1103 and RV1106: "not supported 'float16' dtype".
    """
    for kernel in view.kernels:
        if is_op(kernel.node, QLINEAR):
            continue
        value = kernel.node.outputs[0]
        while len(value.uses()) == 1 and is_op(
            reader := next(iter(value.uses())).node, ACTIVATIONS | target.passing_ops
        ):
            value = reader.outputs[0]
        readers = [use.node for use in value.uses()]
        if value.is_graph_output() or not readers or not all(is_op(reader, QUANTIZE_OPS) for reader in readers):
            yield kernel.node.op_type, name(kernel.node), f"its output '{value.name}' is float"


@rule("float-product", "put Q and DQ between the MatMul and the Add")
def float_product(view: View, _: Target) -> Iterator[Problem]:
    """Behind a LayerNormalization, a MatMul does not write float for the Add of its bias if that Add writes integers.

    RKNN-Toolkit2 2.5 refuses it: "Invalid w_par['dtype'] = float16". Elsewhere it runs such a MatMul in FP16.
    """
    for kernel in view.kernels:
        source = None if kernel.activation is None else view.source(kernel.activation.node)
        if kernel.operator != "MatMul" or source is None or not is_op(source, "LayerNormalization"):
            continue
        product = kernel.node.outputs[0]
        for add in (use.node for use in product.uses()):
            constant = any(constant_of(value) is not None for value in add.inputs)
            if is_op(add, "Add") and constant and _is_quantized(add.outputs[0]):
                yield "MatMul", name(kernel.node), f"its product '{product.name}' is float"


def _is_quantized(value: ir.Value) -> bool:
    readers = [use.node for use in value.uses()]
    if len(readers) == 1 and is_op(readers[0], ("Relu", "Clip")) and not value.is_graph_output():
        return True  # the output of the Relu or Clip is checked instead
    return not value.is_graph_output() and all(is_op(reader, QUANTIZE_OPS) for reader in readers)


def _scale(entry: Quantization) -> str:
    return "a computed scale" if entry.scale is None else f"scale {np.ravel(entry.scale)[0]:.6g}"
