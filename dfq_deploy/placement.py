"""Decides which tensors of a float model are quantized for a target: where Q and DQ stand.

The rules, applied to the main graph (what stands inside If, Loop or Scan stays float):

1. A weighted node (Conv, Gemm, MatMul...) that the target has an integer kernel for reads quantized activations and a
   quantized constant weight; a MatMul may read two activations. One that cannot be quantized is listed with the reason.
2. Its output is quantized, after the Relu or Clip that is its only reader where there is one (the runtime folds that
   into the quantization); unless the kernel can write float and nothing quantized follows.
3. Another operator with an integer kernel (Add, Mul, pooling...) is quantized where all its inputs are and a quantized
   operator follows; a float one reads DQ and writes float.
4. An operator that only moves values (MaxPool, Reshape, Concat...) is quantized where a quantized operator follows; its
   inputs and outputs share one encoding. A Concat of tensors that are bounded differently (one after a Relu, one not)
   shares none: one zero point would keep the runtime from folding the Relu.
5. Everything else (BatchNormalization that is left, Softmax, ReduceMean...) stays float. Only float32 tensors are
   touched, so what computes shapes never is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.graph import WEIGHTED_OPS, constant_of
from dfq_deploy.targets import Target

__all__ = ["Placement", "place", "unify"]

Limits = tuple[float, float]

UNBOUNDED: Limits = (-inf, inf)


@dataclass(frozen=True)
class Placement:
    """What is quantized in one model for one target.

    Args:
        activations: name of each tensor that gets Q and DQ -> its integer type, always per tensor.
        shared: groups of those tensors that must have one encoding.
        limits: least and greatest value that a tensor can take, where the operator before it (Relu, Clip) says so;
            its encoding must not reach beyond, or the runtime cannot fold that operator away.
        weights: name of each initializer that is quantized -> its type and channel axis, None for per tensor.
        biases: name of each bias initializer that is stored as int32 -> the activation and the weight whose scales'
            product is its scale; where several nodes read one bias, those of the first.
        left_float: name, operator and reason of each weighted node that stays float.
    """

    activations: Mapping[str, QuantType]
    shared: tuple[frozenset[str], ...]
    limits: Mapping[str, Limits]
    weights: Mapping[str, tuple[QuantType, int | None]]
    biases: Mapping[str, tuple[str, str]]
    left_float: tuple[tuple[str, str, str], ...]


def place(model: ir.Model, target: Target) -> Placement:
    """Place Q and DQ in ``model`` (BatchNormalization folded, shapes inferred) by the rules of ``target``."""
    graph = model.graph
    obstacles = {
        node: _obstacle(node, target) if node.graph is graph else "it stands inside a subgraph"
        for node in graph.all_nodes()
        if node.op_type in WEIGHTED_OPS
    }
    heads = {node for node, reason in obstacles.items() if reason is None}
    quantized = _quantized_values(list(graph), heads, target)
    limits = _limits(graph, quantized)
    shared = _shared(graph, quantized, limits, target)
    in_order = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return Placement(
        activations={_name(value): target.activation for value in in_order if value in quantized},
        shared=shared,
        limits={_name(value): limits[value] for value in in_order if value in quantized and value in limits},
        weights=_weights(graph, heads, target),
        biases=_biases(graph, heads),
        left_float=tuple(
            (node.name or "", node.op_type, reason) for node, reason in obstacles.items() if reason is not None
        ),
    )


def unify(ranges: Mapping[str, Range], placement: Placement) -> dict[str, Range]:
    """``ranges`` kept within the limits, and the union of its members for each tensor of a shared group.

    Members that ``ranges`` lacks are given the group's union too, so one measured tensor of a group is enough.
    """
    unified = {}
    for name, span in ranges.items():
        low, high = placement.limits.get(name, UNBOUNDED)
        unified[name] = Range(min(max(span.low, low), high), max(min(span.high, high), low))
    for group in placement.shared:
        members = [unified[name] for name in sorted(group) if name in unified]
        if members:
            union = Range(min(span.low for span in members), max(span.high for span in members))
            unified.update(dict.fromkeys(group, union))
    return unified


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _activation_inputs(node: ir.Node) -> list[ir.Value]:
    """What a weighted node reads besides its weight and bias; the values that another one computes with or moves."""
    count = {"Conv": 1, "Gemm": 1, "MatMul": 2, "Add": 2, "Mul": 2, "Concat": len(node.inputs)}.get(node.op_type, 1)
    values = [value for value in node.inputs[:count] if value is not None]
    return values[:1] if node.op_type == "MatMul" and constant_of(values[1]) is not None else values


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, None) and constant_of(value) is None


def _obstacle(node: ir.Node, target: Target) -> str | None:
    """Why a weighted node cannot be quantized; None where it can."""
    if node.op_type not in target.quantized_ops:
        return f"{target.runtime} has no integer {node.op_type}"
    weight = constant_of(node.inputs[1])
    if weight is None and node.op_type != "MatMul":
        return f"its weight '{_name(node.inputs[1])}' is computed, not a constant"
    if weight is not None and weight.dtype != ir.DataType.FLOAT:
        return f"its weight '{_name(node.inputs[1])}' is {weight.dtype}, not FLOAT"
    for value in _activation_inputs(node):
        if not _is_float(value):
            return f"its input '{_name(value)}' is {'a constant' if constant_of(value) is not None else value.dtype}"
    return _bias_obstacle(node, weight)


def _bias_obstacle(node: ir.Node, weight: ir.TensorProtocol | None) -> str | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None or weight is None:
        return None
    bias = constant_of(value)
    if bias is None:
        return f"its bias '{_name(value)}' is computed, not a constant"
    if node.op_type == "Gemm":
        axis = _weight_axis(node)
        if bias.shape.numpy() not in ((weight.shape.numpy()[axis],), (1, weight.shape.numpy()[axis])):
            return f"its bias '{_name(value)}' of shape {bias.shape} is not one value for each output"
        for factor in ("alpha", "beta"):
            if node.attributes.get_float(factor, 1.0) != 1.0:
                return f"its bias cannot be int32 with {factor}={node.attributes.get_float(factor, 1.0):g}"
    return None


def _landing(value: ir.Value, target: Target) -> ir.Value:
    """Where the output of an integer kernel is quantized: after the Relu or Clip that is its only reader."""
    if len(value.uses()) != 1 or value.is_graph_output():
        return value
    node: ir.Node = next(iter(value.uses())).node
    if node.op_type not in target.fused_activations or node.inputs[0] is not value:
        return value
    limits = _activation_limits(node)
    return value if limits is None else node.outputs[0]


def _activation_limits(node: ir.Node) -> Limits | None:
    """What the encoding after a Relu or Clip may span; None where nothing is known, or zero is clipped away.

    Where a Clip cuts on both sides of zero, half a step is left on each side, so that rounding the zero point never
    reaches beyond it.
    """
    if node.op_type == "Relu":
        return (0.0, inf)
    if node.op_type != "Clip":
        return None
    bounds = list(UNBOUNDED)
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            constant = constant_of(value)
            if constant is None or constant.dtype != ir.DataType.FLOAT:
                return None
            bounds[index] = float(constant.numpy())
    low, high = bounds
    if not low <= 0.0 <= high or low == high:
        return None
    half_step = (high - low) / 512 if low < 0.0 < high and np.isfinite(high - low) else 0.0
    return (low + half_step, high - half_step)


def _follows(node: ir.Node, target: Target) -> bool:
    """True if rule 3 or 4 can apply to ``node``: its kernel has an integer form for these inputs."""
    if node.op_type in WEIGHTED_OPS or node.op_type not in target.quantized_ops | target.passing_ops:
        return False
    inputs = _activation_inputs(node)
    if len(set(inputs)) != len(inputs) or not all(_is_float(value) for value in inputs):
        return False
    if node.op_type == "Pad" and not _pads_with_zero(node):
        return False
    return node.op_type == "Split" or all(not value.uses() for value in node.outputs[1:])


def _pads_with_zero(node: ir.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    constant = constant_of(value)
    return value is None or (constant is not None and not np.any(constant.numpy()))


def _outputs(node: ir.Node, target: Target) -> list[ir.Value]:
    """Where the outputs of a node of rule 3 or 4 are quantized."""
    if node.op_type in target.passing_ops:
        return [value for value in node.outputs if value.name]
    return [_landing(node.outputs[0], target)]


def _quantized_values(nodes: Sequence[ir.Node], heads: set[ir.Node], target: Target) -> set[ir.Value]:
    wanted = {value for node in heads for value in _activation_inputs(node)}
    followers = [node for node in nodes if _follows(node, target)]
    for node in reversed(followers):
        if not wanted.isdisjoint(_outputs(node, target)):
            wanted.update(_activation_inputs(node))
    quantized = {value for node in heads for value in _activation_inputs(node)}
    for node in heads:
        landing = _landing(node.outputs[0], target)
        if landing in wanted or node.op_type not in target.float_output_ops:
            quantized.add(landing)
    size = -1
    while size != len(quantized):
        size = len(quantized)
        for node in followers:
            inputs, outputs = _activation_inputs(node), _outputs(node, target)
            if quantized.issuperset(inputs) and not wanted.isdisjoint(outputs):
                quantized.update(outputs)
            elif node.op_type in target.passing_ops and not quantized.isdisjoint(outputs):
                quantized.update(inputs, outputs)
    return quantized


def _limits(graph: ir.Graph, quantized: set[ir.Value]) -> dict[ir.Value, Limits]:
    found = {}
    for node in graph:
        limits = _activation_limits(node)
        if limits is not None and node.outputs[0] in quantized:
            found[node.outputs[0]] = limits
    return found


def _shared(
    graph: ir.Graph, quantized: set[ir.Value], limits: dict[ir.Value, Limits], target: Target
) -> tuple[frozenset[str], ...]:
    """Groups of one encoding; hands the limits of a moved tensor on to the moved one (in ``limits``)."""
    groups: dict[ir.Value, set[ir.Value]] = {value: {value} for value in quantized}
    for node in graph:
        values = [*_activation_inputs(node), *node.outputs]
        if node.op_type not in target.passing_ops or not _follows(node, target) or not quantized.issuperset(values):
            continue
        bounds = {limits.get(value, UNBOUNDED) for value in _activation_inputs(node)}
        if len(bounds) > 1:
            continue
        if bounds != {UNBOUNDED}:
            limits.update(dict.fromkeys(node.outputs, *bounds))
        union = set().union(*(groups[value] for value in values))
        groups.update(dict.fromkeys(union, union))
    names = {frozenset(_name(value) for value in group) for group in groups.values() if len(group) > 1}
    return tuple(sorted(names, key=sorted))


def _weight_axis(node: ir.Node) -> int:
    """The output channel's axis of a weighted node's weight; for MatMul and Gemm the columns."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.attributes.get_int("transB", 0) else 1


def _weights(graph: ir.Graph, heads: set[ir.Node], target: Target) -> dict[str, tuple[QuantType, int | None]]:
    found: dict[str, tuple[QuantType, int | None]] = {}
    for node in graph:
        weight = constant_of(node.inputs[1]) if node in heads else None
        if weight is None:
            continue
        name = _name(node.inputs[1])
        per_channel = target.per_channel and (node.op_type != "MatMul" or len(weight.shape) == 2)
        axis = _weight_axis(node) if per_channel else None
        # Two readers that disagree on the channel axis can only share one scale for all of it.
        found[name] = (target.weight, axis if found.get(name, (None, axis))[1] == axis else None)
    return found


def _biases(graph: ir.Graph, heads: set[ir.Node]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for node in graph:
        if node in heads and len(node.inputs) > 2 and node.inputs[2] is not None:
            activation, weight, bias = (_name(value) for value in node.inputs[:3] if value is not None)
            found.setdefault(bias, (activation, weight))
    return found
