"""The placement rules: which tensors get Q and DQ, operator by operator (Conv, Add, Concat...).

The rules apply to the main graph; nodes inside If, Loop or Scan stay float, or are quantized at run time
(:mod:`dfq_deploy.quantization.dynamic`), as are all that are marked for it. For a target of style ``kernels``:

1. A weighted node (Conv, Gemm, MatMul...) for which the target has an integer kernel reads quantized activations and a
   quantized constant weight; a MatMul may read two activations. A weighted node that cannot be quantized is listed with
   the reason.
2. The output of a weighted node is quantized. If its only consumer is a Relu or Clip, the output of that operator is
   quantized instead, since the runtime folds it into the quantization. If the kernel can write float and no quantized
   node follows, the output stays float.
3. Any other operator with an integer kernel (Add, Mul, pooling...) is quantized if all its inputs are quantized and a
   quantized operator follows; otherwise it reads DQ and writes float.
4. An operator that only moves values (MaxPool, Reshape, Concat...) is quantized if a quantized operator follows; its
   inputs and outputs share one encoding. A Concat of tensors with different bounds (one after a Relu, one not) shares
   no encoding: one zero point would keep the runtime from folding the Relu.
5. Spectral front ends stay float (:mod:`dfq_deploy.quantization.placement.spectral`).
6. An output that is an input is passed through without Q and DQ
   (:mod:`dfq_deploy.quantization.placement.exact`).
7. Nodes after an operator that ONNX Runtime does not have stay float, since they cannot be calibrated.
8. Everything else (BatchNormalization that was not folded, Softmax, ReduceMean...) stays float. Only float32 tensors
   are quantized, so shape computations are never affected.

For style ``inputs`` rules 1 and 6 apply, and the others are replaced: the branch of an Add that is not a convolution's
output is quantized too; the quantized tensors of an operator that only moves values (e.g. the inputs of a Concat)
share one encoding; everything else stays float. For style ``everything`` all float tensors are quantized except those
of rule 6, and those between a kernel and its Relu or Clip (rule 2).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.quantization.dynamic import FEWEST_WEIGHTS, dynamic_form, dynamic_weights
from dfq_deploy.quantization.placement.exact import exact_values
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits, known_limits
from dfq_deploy.quantization.placement.policies import constant_operands, values_to_quantize
from dfq_deploy.quantization.placement.predicates import obstacle, shared_groups
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.quantization.tables import encodings_of_tables, quantized_tables
from dfq_deploy.quantization.weights import (
    Bounds,
    encoding_of_weight,
    extremes,
    raise_scale_for_bias,
    raise_scale_for_sums,
)
from dfq_deploy.runtime.plugin_nodes import behind_plugins
from dfq_deploy.targets.target import Target

__all__ = [
    "BEHIND_PLUGIN",
    "FASTER_IN_FLOAT",
    "KEPT",
    "Placement",
    "encodings_of_weights",
    "place",
    "unify",
    "with_biases",
]


BEHIND_PLUGIN = "it stands behind an operator that ONNX Runtime does not have, so it cannot be calibrated"


@dataclass(frozen=True)
class Placement:
    """The quantized tensors of one model for one target.

    Args:
        activations: name of each tensor that gets Q and DQ -> its integer type, always per tensor.
        shared: groups of those tensors that must have the same encoding.
        limits: smallest and largest value that a tensor can take, where a Relu or Clip writes it: its encoding must not
            reach beyond them, or the runtime cannot fold that operator; or the interval beyond which its consumers
            saturate (:mod:`dfq_deploy.quantization.placement.saturation`).
        weights: name of each quantized initializer -> its type and channel axis, None for per tensor.
        biases: name of each bias initializer that is stored as int32 -> the activation and the weight, whose scales
            multiply to the scale of the bias. If several nodes read one bias, those of the first. Empty for targets
            whose biases stay float.
        left_float: name (of its first output where it has none), operator and reason of each weighted node that stays
            float.
        constants: name of each other quantized initializer (operand of an Add, Mul...) -> its type, per tensor.
        kept: names of the nodes that stay float by request.
        dynamic: names of the nodes whose activations are quantized at run time
            (:mod:`dfq_deploy.quantization.dynamic`).
        tables: name of each quantized table of a Gather (:mod:`dfq_deploy.quantization.tables`) -> its type and axis.
        narrow_sums: no sum of two products may exceed 16 bits (:class:`.Target`).
    """

    activations: Mapping[str, QuantType]
    shared: tuple[frozenset[str], ...]
    limits: Mapping[str, Limits]
    weights: Mapping[str, tuple[QuantType, int | None]]
    biases: Mapping[str, tuple[str, str]]
    left_float: tuple[tuple[str, str, str], ...]
    constants: Mapping[str, QuantType] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    dynamic: frozenset[str] = frozenset()
    tables: Mapping[str, tuple[QuantType, int | None]] = field(default_factory=dict)
    narrow_sums: bool = False


UNTYPED = "the type of what it reads cannot be inferred"

KEPT = "kept in float, as asked"

FASTER_IN_FLOAT = "kept in float, where it is faster than in integers with the conversions around it"
"""Reason of what was measured to be slower in integers."""


BESIDE_DYNAMIC = "a product of two activations, which is faster in float where the layers around it write float"


def place(
    model: ir.Model, target: Target, apart: Collection[str] = (), kept: frozenset[str] = frozenset()
) -> Placement:
    """Place Q and DQ in ``model`` (BatchNormalization folded, shapes inferred) by the rules of ``target``.

    Args:
        apart: names of nodes that one scale would break (:mod:`dfq_deploy.quantization.placement.detection_heads`): a
            Concat stays float, and a last convolution writes float.
        kept: names of nodes that stay float: weighted ones multiply floats, others read and write what integer kernels
            around them round, and are no part of these.
    """
    graph = model.graph
    dynamic = {node for node in graph.all_nodes() if dynamic_form(node) is not None}
    obstacles = {
        node: obstacle(node, target) if node.graph is graph else _inside_obstacle(node, target)
        for node in graph.all_nodes()
        if is_op(node, WEIGHTED_OPS) and node not in dynamic
    }
    obstacles |= {node: reason for node, reason in spectral_nodes(model).items() if obstacles.get(node, "") is None}
    if any(node.graph is graph and is_op(node, WEIGHTED_OPS) for node in dynamic):
        obstacles |= {node: BESIDE_DYNAMIC for node in obstacles if constant_of(node.inputs[1]) is None}
    obstacles |= {node: UNTYPED for node, reason in obstacles.items() if reason is None and _reads_untyped(node)}
    obstacles |= {node: KEPT for node in graph.all_nodes() if node.name in kept}
    behind = behind_plugins(model)
    obstacles |= {node: BEHIND_PLUGIN for node in obstacles if node in behind}
    heads = {node for node, reason in obstacles.items() if reason is None}
    apart = {*apart, *kept}
    quantized = values_to_quantize([node for node in graph if node not in behind], heads, target, apart)
    quantized -= exact_values(model)
    limits = known_limits(graph, quantized)
    shared = shared_groups(graph, quantized, limits, target, apart)
    moved = frozenset[str]().union(*shared)
    alone = [value for value in quantized if value not in limits and name_of(value) not in moved]
    saturated = saturations(alone)
    limits |= {value: saturated[name_of(value)] for value in alone if name_of(value) in saturated}
    in_order = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return Placement(
        activations={name_of(value): target.activation for value in in_order if value in quantized},
        shared=shared,
        limits={name_of(value): limits[value] for value in in_order if value in quantized and value in limits},
        weights=_with_dynamic(_weights(graph, heads, target), dynamic_weights(dynamic, target)),
        biases={} if target.float_bias else _biases(graph, heads),
        left_float=tuple(
            (node.name or name_of(node.outputs[0]), node.op_type, reason)
            for node, reason in obstacles.items()
            if reason is not None
        ),
        constants=constant_operands(graph, target),
        kept=kept,
        dynamic=frozenset(str(node.name) for node in dynamic),
        tables=quantized_tables(model, target, heads | dynamic, kept),
        narrow_sums=target.narrow_sums,
    )


def _reads_untyped(node: ir.Node) -> bool:
    return node.inputs[0] is not None and node.inputs[0].dtype is None


def _inside_obstacle(node: ir.Node, target: Target) -> str:
    """Why a node inside If, Loop or Scan stays float."""
    if not target.dynamic_ops:
        return "it stands inside a subgraph"
    if not is_op(node, target.dynamic_ops):
        return f"it stands inside a subgraph, where {target.runtime} has no integer {node.op_type} that is faster"
    if constant_of(node.inputs[1]) is None:
        return "it stands inside a subgraph, and its weight is computed"
    return f"it stands inside a subgraph, and is too small to gain from integers (below {FEWEST_WEIGHTS} weights)"


def _with_dynamic(
    static: dict[str, tuple[QuantType, int | None]], dynamic: dict[str, tuple[QuantType, int | None]]
) -> dict[str, tuple[QuantType, int | None]]:
    """Both; a weight that both kinds of layers read has one scale where their channels lie on different axes."""
    found = {**static, **dynamic}
    for name in static.keys() & dynamic.keys():
        if static[name][1] != dynamic[name][1]:
            found[name] = (static[name][0], None)
    return found


def with_biases(placement: Placement, model: ir.Model, target: Target) -> Placement:
    """Update the biases of ``placement`` to those of ``model``: bias correction adds a bias to nodes without one."""
    if target.float_bias:
        return placement
    quantized_nodes = {node for node in model.graph if is_op(node, WEIGHTED_OPS) and _is_quantized(node, placement)}
    return replace(placement, biases=_biases(model.graph, quantized_nodes))


def _is_quantized(node: ir.Node, placement: Placement) -> bool:
    activation, weight = node.inputs[:2]
    return name_of(activation) in placement.activations and name_of(weight) in placement.weights


def unify(ranges: Mapping[str, Range], placement: Placement) -> dict[str, Range]:
    """Clip ``ranges`` to the limits of ``placement``, and give all tensors of a shared group the union of their ranges.

    Tensors of a group that have no range of their own get the union too: one measured tensor of a group is enough.
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


def encodings_of_weights(
    model: ir.Model,
    placement: Placement,
    bounds: Bounds = extremes,
    activations: Mapping[str, Encoding] | None = None,
) -> dict[str, Encoding]:
    """Compute the encoding of each weight and other constant that ``placement`` quantizes.

    Args:
        model: holds the values.
        placement: names of the constants, with their types and channel axes.
        bounds: computes the range of each channel.
        activations: encodings of the activations. If given, scales are raised so that every bias fits into int32;
            otherwise the exporter has to do so, and its file then differs from these encodings.
    """
    constants = {
        name: constant.numpy() for name, value in model.graph.initializers.items() if (constant := constant_of(value))
    }
    encodings = {
        name: encoding_of_weight(constants[name], qtype, axis, bounds)
        for name, (qtype, axis) in placement.weights.items()
    }
    if placement.narrow_sums:
        for node in model.graph.all_nodes():
            for name in map(name_of, node.inputs):
                if name in encodings:
                    encodings[name] = raise_scale_for_sums(encodings[name], constants[name], node)
    encodings |= encodings_of_tables(placement.tables, encodings, constants)
    for name, qtype in placement.constants.items():
        encodings[name] = encoding_of_weight(constants[name], qtype, None)
    if activations is not None:
        for bias, (activation, weight) in placement.biases.items():
            encodings[weight] = raise_scale_for_bias(encodings[weight], constants[bias], activations[activation])
    return encodings


def _weights(graph: ir.Graph, quantized_nodes: set[ir.Node], target: Target) -> dict[str, tuple[QuantType, int | None]]:
    types: dict[str, tuple[QuantType, int | None]] = {}
    for node in graph:
        weight = constant_of(node.inputs[1]) if node in quantized_nodes else None
        if weight is None:
            continue
        name = name_of(node.inputs[1])
        axis = weight_axis(node) if _is_per_channel(node, weight, target) else None
        # Two consumers with different channel axes can only share one scale per tensor.
        axis = axis if types.get(name, (None, axis))[1] == axis else None
        types[name] = (target.weight if axis is not None else target.weight_per_tensor or target.weight, axis)
    return types


def _is_per_channel(node: ir.Node, weight: ir.TensorProtocol, target: Target) -> bool:
    if not target.per_channel or not is_op(node, target.channel_ops):
        return False
    # The channels of a grouped ConvTranspose lie on two axes of its weight.
    grouped = is_op(node, "ConvTranspose") and node.attributes.get_int("group", 1) != 1
    return not grouped and (not is_op(node, "MatMul") or len(weight.shape) == 2)


def _biases(graph: ir.Graph, quantized_nodes: set[ir.Node]) -> dict[str, tuple[str, str]]:
    biases: dict[str, tuple[str, str]] = {}
    for node in graph:
        if node in quantized_nodes and len(node.inputs) > 2 and node.inputs[2] is not None:
            activation, weight, bias = (name_of(value) for value in node.inputs[:3] if value is not None)
            biases.setdefault(bias, (activation, weight))
    return biases
