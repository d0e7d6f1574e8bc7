"""Decide whether a node can be quantized, and which of its tensors share an encoding.

:mod:`dfq_deploy.quantization.placement.place` lists the numbered rules.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op, operator_of
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.graph.traversal import walk
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits, activation_limits
from dfq_deploy.targets.target import Target

__all__ = [
    "activation_inputs",
    "is_gemv",
    "is_projection",
    "mark_narrow_copy",
    "obstacle",
    "quantization_point",
    "quantized_values",
    "shared_groups",
]


def activation_inputs(node: ir.Node) -> list[ir.Value]:
    """Return the activations that a node reads: without weight and bias, and without parameters such as shapes."""
    pairs = ("MatMul", "Add", "Mul", "Sub")
    count = len(node.inputs) if is_op(node, "Concat") else 2 if is_op(node, pairs) else 1
    values = [value for value in node.inputs[:count] if value is not None]
    return values[:1] if is_op(node, "MatMul") and constant_of(values[1]) is not None else values


NARROW_COPY = "dfq_deploy.narrows"
"""Key in the ``meta`` of an Identity that :func:`mark_narrow_copy` marks; it is not written to a file."""


def mark_narrow_copy(node: ir.Node) -> None:
    """Mark the Identity ``node`` as the copy of a tensor for layers with fewer bits, with its own encoding."""
    node.meta[NARROW_COPY] = True


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, None) and constant_of(value) is None


def obstacle(node: ir.Node, target: Target) -> str | None:
    """Return the reason why a weighted node cannot be quantized; None if it can."""
    if not is_op(node, target.quantized_ops) or (target.skips_gemv and is_gemv(node)):
        kind = "matrix-vector product" if is_op(node, target.quantized_ops) else node.op_type
        return f"{target.runtime} has no integer {kind}"
    weight = constant_of(node.inputs[1])
    found = _weight_obstacle(node, weight, target)
    if found is not None:
        return found
    for value in activation_inputs(node):
        if not _is_float(value):
            return f"its input '{name_of(value)}' is {'a constant' if constant_of(value) is not None else value.dtype}"
        pool = _unreliable_source(value, target)
        if pool is not None:
            return f"{target.runtime} would run {pool.op_type} '{pool.name}' before it in integers, with wrong results"
    return _bias_obstacle(node, weight, target)


def _weight_obstacle(node: ir.Node, weight: ir.TensorProtocol | None, target: Target) -> str | None:
    name = name_of(node.inputs[1])
    if target.style != "everything" and is_projection(node):
        return "it computes the distance of a box's side from a distribution, which 8 bits would round to pixels"
    if weight is None:
        return None if is_op(node, "MatMul") else f"its weight '{name}' is computed, not a constant"
    return None if weight.dtype == ir.DataType.FLOAT else f"its weight '{name}' is {weight.dtype}, not FLOAT"


def is_projection(node: ir.Node) -> bool:
    """Return True for the product of a distribution with its bins 0, 1, 2, ... (the distance of a box's side, DFL)."""
    weight = constant_of(node.inputs[1]) if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 1 else None
    if weight is None or weight.dtype != ir.DataType.FLOAT or not 3 < weight.size < 65:
        return False
    values = weight.numpy().reshape(-1)
    return bool(np.array_equal(values, np.arange(len(values), dtype=np.float32)))


def is_gemv(node: ir.Node) -> bool:
    """Return True for a MatMul whose result has one row or one column."""
    shape = node.outputs[0].shape if is_op(node, "MatMul") else None
    return shape is not None and len(shape) > 1 and any(dim == 1 for dim in list(shape)[-2:])


def _unreliable_source(value: ir.Value, target: Target) -> ir.Node | None:
    """Return the AveragePool that ``value`` comes from, if its integer kernel must not be used.

    Operators between them that only move values are skipped. ONNX Runtime 1.31 fuses every AveragePool between DQ and
    Q; its integer kernel divides by a wrong count if both ceil_mode and count_include_pad are set, and does not
    support dilations: the session then rejects the whole model.
    """

    def sources(node: ir.Node) -> Iterator[ir.Node]:
        for moved in activation_inputs(node) if is_op(node, target.passing_ops) else ():
            producer = moved.producer()
            if producer is not None:
                yield producer

    start = value.producer() if "AveragePool" in target.quantized_ops | target.passing_ops else None
    return next((node for node in walk([start] if start else [], sources) if _is_unreliable(node)), None)


def _is_unreliable(node: ir.Node) -> bool:
    ceil = node.attributes.get_int("ceil_mode", 0) != 0 and node.attributes.get_int("count_include_pad", 0) != 0
    dilated = any(step != 1 for step in node.attributes.get_ints("dilations", ()) or ())
    return is_op(node, "AveragePool") and (ceil or dilated)


def _bias_obstacle(node: ir.Node, weight: ir.TensorProtocol | None, target: Target) -> str | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None or weight is None or target.float_bias:
        return None
    bias = constant_of(value)
    if bias is None:
        return f"its bias '{name_of(value)}' is computed, not a constant"
    if is_op(node, "Gemm"):
        axis = weight_axis(node)
        if bias.shape.numpy() not in ((weight.shape.numpy()[axis],), (1, weight.shape.numpy()[axis])):
            return f"its bias '{name_of(value)}' of shape {bias.shape} is not one value for each output"
        for factor in ("alpha", "beta"):
            if node.attributes.get_float(factor, 1.0) != 1.0:
                return f"its bias cannot be int32 with {factor}={node.attributes.get_float(factor, 1.0):g}"
    return None


def quantization_point(value: ir.Value, target: Target) -> ir.Value:
    """Return the tensor that is quantized for an integer kernel's output ``value``.

    That is the output of the Relu or Clip that is its only consumer, if any; else ``value`` itself. The Add of a bias
    that the target fuses comes before.
    """
    value = _with_bias(value) if target.fuses_bias else value
    if len(value.uses()) != 1 or value.is_graph_output():
        return value
    node: ir.Node = next(iter(value.uses())).node
    if not is_op(node, target.fused_activations) or node.inputs[0] is not value:
        return value
    limits = activation_limits(node)
    return value if limits is None else node.outputs[0]


def _with_bias(value: ir.Value) -> ir.Value:
    """Return the output of the Add of a bias that alone reads a MatMul's output ``value``; else ``value``."""
    node = value.producer()
    if node is None or not is_op(node, "MatMul") or len(value.uses()) != 1 or value.is_graph_output():
        return value
    add: ir.Node = next(iter(value.uses())).node
    weight = constant_of(node.inputs[1])
    biases = [constant for other in add.inputs if (constant := constant_of(other)) is not None]
    if not is_op(add, "Add") or weight is None or len(biases) != 1 or len(weight.shape) != 2:
        return value
    shape = biases[0].shape.numpy()
    fits = biases[0].size in (1, weight.shape.numpy()[1]) and biases[0].size == (shape[-1] if shape else 1)
    return add.outputs[0] if fits and biases[0].dtype == ir.DataType.FLOAT else value


def _operands(node: ir.Node, target: Target) -> list[ir.Value]:
    """Return the activations that ``node`` reads, without constants where the target quantizes those itself."""
    values = activation_inputs(node)
    computed = [value for value in values if constant_of(value) is None]
    return computed if is_op(node, target.constant_operands) and computed else values


def _can_follow(node: ir.Node, target: Target) -> bool:
    """Return True if rule 3 or 4 can apply to ``node``: the target has an integer kernel for these inputs."""
    if is_op(node, WEIGHTED_OPS) or not is_op(node, target.quantized_ops | target.passing_ops):
        return False
    if NARROW_COPY in node.meta:
        return False
    inputs = _operands(node, target)
    if len(set(inputs)) != len(inputs) or not all(_is_float(value) for value in inputs):
        return False
    condition = _CONDITIONS.get(operator_of(node))
    if condition is not None and not condition(node):
        return False
    return is_op(node, "Split") or all(not value.uses() for value in node.outputs[1:])


def _pads_with_zero(node: ir.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    constant = constant_of(value)
    return value is None or (constant is not None and not np.any(constant.numpy()))


def _is_nearest(node: ir.Node) -> bool:
    return node.attributes.get_string("mode", "nearest") == "nearest"


_CONDITIONS: dict[str, Callable[[ir.Node], bool]] = {
    "AveragePool": lambda node: not _is_unreliable(node),
    "Pad": _pads_with_zero,
    "Resize": _is_nearest,
}
"""Further conditions on nodes of some operators."""


def _quantized_outputs(node: ir.Node, target: Target) -> list[ir.Value]:
    """Return the tensors that are quantized for the outputs of a node of rule 3 or 4."""
    if is_op(node, "Split"):
        return list(node.outputs)
    return [node.outputs[0] if is_op(node, target.passing_ops) else quantization_point(node.outputs[0], target)]


def _is_first_product(node: ir.Node) -> bool:
    """Return True for a MatMul with a weight that reads an input of the network."""
    return (
        is_op(node, "MatMul")
        and constant_of(node.inputs[1]) is not None
        and activation_inputs(node)[0].is_graph_input()
    )


def quantized_values(
    nodes: Sequence[ir.Node], quantized_nodes: set[ir.Node], target: Target, kept_float: Collection[str] = ()
) -> set[ir.Value]:
    """Return the activations that are quantized.

    Args:
        quantized_nodes: the weighted nodes that are quantized.
        kept_float: names of Concat nodes that stay float, and of weighted nodes that write float if no quantized node
            follows.
    """
    needed = {value for node in quantized_nodes for value in _operands(node, target)}
    candidates = [node for node in nodes if _can_follow(node, target) and node.name not in kept_float]
    for node in reversed(candidates):
        if not needed.isdisjoint(_quantized_outputs(node, target)):
            needed.update(_operands(node, target))
    quantized = {value for node in quantized_nodes for value in _operands(node, target)}
    for node in quantized_nodes:
        written = quantization_point(node.outputs[0], target)
        writes_float = is_op(node, target.float_output_ops) or (target.float_first_product and _is_first_product(node))
        if written in needed or (not writes_float and node.name not in kept_float):
            quantized.add(written)
    size = -1
    while size != len(quantized):
        size = len(quantized)
        for node in candidates:
            inputs, outputs = _operands(node, target), _quantized_outputs(node, target)
            if quantized.issuperset(inputs) and not needed.isdisjoint(outputs):
                quantized.update(outputs)
            elif is_op(node, target.passing_ops) and not quantized.isdisjoint(outputs):
                quantized.update(inputs, outputs)
    return quantized


def shared_groups(
    graph: ir.Graph,
    quantized: set[ir.Value],
    limits: dict[ir.Value, Limits],
    target: Target,
    kept_float: Collection[str] = (),
) -> tuple[frozenset[str], ...]:
    """Return the groups of tensors that share one encoding.

    The limits of the inputs of an operator that only moves values are added to ``limits`` for its outputs. For targets
    of style ``inputs`` encodings are symmetric and limits do not matter: all quantized tensors of such an operator
    share one encoding.
    """
    groups: dict[ir.Value, set[ir.Value]] = {value: {value} for value in quantized}
    for node in graph:
        if not is_op(node, target.passing_ops) or not _can_follow(node, target) or node.name in kept_float:
            continue
        values = [*_operands(node, target), *_quantized_outputs(node, target)]
        if target.style == "inputs":
            values = [value for value in values if value in quantized]
        elif not quantized.issuperset(values):
            continue
        else:
            bounds = {limits.get(value, UNBOUNDED) for value in _operands(node, target)}
            if len(bounds) > 1:
                continue
            if bounds != {UNBOUNDED}:
                limits.update(dict.fromkeys(_quantized_outputs(node, target), *bounds))
        union = set().union(*(groups[value] for value in values))
        groups.update(dict.fromkeys(union, union))
    names = {frozenset(name_of(value) for value in group) for group in groups.values() if len(group) > 1}
    return tuple(sorted(names, key=sorted))
