"""Rules on where Q and DQ stand."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dfq_deploy.checking.registry import Place, rule
from dfq_deploy.checking.view import QLINEAR, Quantization, View, name
from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.query import constant_of
from dfq_deploy.quantization.placement.policies import count_weighted_before, residual_branch
from dfq_deploy.quantization.placement.predicates import obstacle
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.targets.target import Target

__all__ = [
    "concat_scale",
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
"""What runtimes fold into the weighted operator before it."""

LINEAR = ("QuantizeLinear", "DequantizeLinear")

PARAMETERS = {"Clip": (1, 2), "Resize": (1, 2), "Pad": (2,)}
"""Inputs that may be float numbers where everything else is quantized."""


@rule("float-weighted", "quantize it, or take it for what it is: a layer that runs in float")
def float_weighted(view: View, target: Target) -> Iterator[Place]:
    """A weighted operator that the runtime has in integers reads a quantized activation and a quantized weight.

    But for one that had better stay float: a spectral front end (:mod:`dfq_deploy.quantization.placement.spectral`),
    TensorRT's matrix-vector products (ModelOpt leaves them out too), and what no integer kernel takes
    (:func:`dfq_deploy.quantization.placement.predicates.obstacle`). A quantized weight beside a float activation is
    never excused: the layer runs in float and dequantizes its weight first.
    """
    fed_with_floats = any(value.dtype == ir.DataType.FLOAT for value in input_values(view.model))
    fronts = spectral_nodes(view.model) if fed_with_floats else {}
    for kernel in view.kernels:
        if kernel.node.op_type in QLINEAR or not kernel.has_weight or kernel.node in fronts:
            continue
        missing = [what for what, found in (("input", kernel.activation), ("weight", kernel.weight)) if found is None]
        weight_only = kernel.weight is not None and kernel.activation is None
        if missing and (weight_only or obstacle(kernel.node, target) is None):
            yield kernel.node.op_type, name(kernel.node), f"its {' and '.join(missing)} is float"


@rule("concat-scale", "give all its inputs and its output one scale")
def concat_scale(view: View, _: Target) -> Iterator[Place]:
    """What a quantized Concat joins has one scale.

    TensorRT moves Q before the Concat, and joins integers without rescaling them (TensorRT#4366, #3861).
    """
    for node in view.nodes:
        after = [entry for entry in view.quantizations if entry.node.inputs[0] is node.outputs[0]]
        if node.op_type != "Concat" or not after:
            continue
        before = [view.by_node[producer] for producer in node.predecessors() if producer in view.by_node]
        odd = [entry for entry in before if not entry.same_scale(after[0])]
        if odd:
            yield "Concat", name(node), f"'{name(odd[0].node)}' has {_scale(odd[0])}, its output {_scale(after[0])}"


@rule("residual-branch", "put Q and DQ on that input of the Add")
def residual(view: View, _: Target) -> Iterator[Place]:
    """The branch of an Add that no convolution writes is quantized, so that convolution and Add become one kernel.

    TensorRT: else the Add runs in float, and the convolution writes float for it (TensorRT#1992, #3861; NVIDIA's
    TensorFlow toolkit adds the same special case).
    """
    for node in view.nodes:
        branch = residual_branch(node, view.heads)
        if branch is not None and branch.producer() not in view.by_node:
            yield "Add", name(node), f"its input '{branch.name}' is float, beside a quantized layer's output"


@rule("quantized-output", "take Q and DQ away, and put them where a weighted operator reads")
def quantized_output(view: View, _: Target) -> Iterator[Place]:
    """The output of a weighted operator is quantized only if a weighted operator or the branch of an Add reads it.

    TensorRT's guide on Q/DQ placement: quantize the inputs of weighted operators, and not their outputs.
    """
    for kernel in view.kernels:
        if kernel.node.op_type in QLINEAR:
            continue
        for dequantize in view.behind(kernel.node.outputs[0]):
            readers = [use.node for use in dequantize.outputs[0].uses()]
            if any(reader in view.weighted or reader.op_type in ACTIVATIONS for reader in readers):
                continue
            if not any(reader.op_type == "Add" and _is_branch(kernel.node, reader, view) for reader in readers):
                yield kernel.node.op_type, name(kernel.node), f"'{name(dequantize)}' follows it for no such reader"


def _is_branch(node: ir.Node, add: ir.Node, view: View) -> bool:
    """True if ``node`` writes the side of the Add that ought to be quantized: the other is not, or is the main one."""
    sides = [value.producer() for value in add.inputs if value is not None]
    others = [side for side in sides if side is not None and view.source(side) is not node]
    if not others or others[0] not in view.by_node:
        return True
    other = view.source(others[0])
    return other in view.weighted and count_weighted_before(node, view.heads) <= count_weighted_before(
        other, view.heads
    )


@rule("split-activation", "put Q and DQ behind the activation")
def split_activation(view: View, _: Target) -> Iterator[Place]:
    """No Q and DQ stand between a weighted operator and its activation: TensorRT runs both as one kernel."""
    for kernel in view.kernels:
        for dequantize in view.behind(kernel.node.outputs[0]):
            for reader in (use.node for use in dequantize.outputs[0].uses()):
                if reader.op_type in ACTIVATIONS:
                    found = f"'{name(dequantize)}' stands between it and {reader.op_type} '{name(reader)}'"
                    yield kernel.node.op_type, name(kernel.node), found


@rule("shared-int8", "quantize activations to u8")
def shared_int8(view: View, _: Target) -> Iterator[Place]:
    """No s8 activation is read more than once.

    On x86 ONNX Runtime rewrites s8 activations to u8, its faster kernels, but not one that several operators read:
    their convolutions stay float (measured on a residual network: 9 of 22 convolutions in integers).
    """
    for entry in view.activations():
        if entry.kind != "s8" or entry.node.op_type != "QuantizeLinear":
            continue
        ends = [use.node for use in entry.node.outputs[0].uses()]
        readers = sum(len(end.outputs[0].uses()) if end.op_type in LINEAR else 1 for end in ends)
        if readers > 1:
            yield "QuantizeLinear", name(entry.node), f"{readers} operators read its s8 output"


@rule("float-tensor", "quantize it, or run the file where floats are computed too")
def float_tensor(view: View, _: Target) -> Iterator[Place]:
    """Every operator reads DQ and writes Q; only a Relu or Clip may stand before the Q.

    QNN's HTP backend runs quantized graphs; an operator without Q and DQ around it falls back to the CPU, or to fp16
    (QNN-ExecutionProvider.md, session.disable_cpu_ep_fallback).
    """
    for node in view.nodes:
        if node.op_type in LINEAR or node.op_type.startswith("QLinear"):
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT or index in PARAMETERS.get(node.op_type, ()):
                continue
            producer = value.producer()
            clipped = node.op_type in ("Relu", "Clip") and producer is not None
            if not clipped and (producer is None or producer.op_type != "DequantizeLinear"):
                what = "constant" if constant_of(value) is not None else "input"
                yield node.op_type, name(node), f"its {what} '{value.name}' is float"
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and not _is_quantized(value):
                yield node.op_type, name(node), f"its output '{value.name}' is float"


def _is_quantized(value: ir.Value) -> bool:
    readers = [use.node for use in value.uses()]
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip") and not value.is_graph_output():
        return True  # its own output is looked at
    return not value.is_graph_output() and all(reader.op_type == "QuantizeLinear" for reader in readers)


def _scale(entry: Quantization) -> str:
    return "a computed scale" if entry.scale is None else f"scale {np.ravel(entry.scale)[0]:.6g}"
