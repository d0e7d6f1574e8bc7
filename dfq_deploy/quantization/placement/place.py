"""The placement rules: which tensors get Q and DQ, operator by operator (Conv, Add, Concat...).

The rules, applied to the main graph (what stands inside If, Loop or Scan stays float), for a target of style
``kernels``:

1. A weighted node (Conv, Gemm, MatMul...) that the target has an integer kernel for reads quantized activations and a
   quantized constant weight; a MatMul may read two activations. One that cannot be quantized is listed with the reason.
2. Its output is quantized, after the Relu or Clip that is its only reader where there is one (the runtime folds that
   into the quantization); unless the kernel can write float and nothing quantized follows.
3. Another operator with an integer kernel (Add, Mul, pooling...) is quantized where all its inputs are and a quantized
   operator follows; a float one reads DQ and writes float.
4. An operator that only moves values (MaxPool, Reshape, Concat...) is quantized where a quantized operator follows; its
   inputs and outputs share one encoding. A Concat of tensors that are bounded differently (one after a Relu, one not)
   shares none: one zero point would keep the runtime from folding the Relu.
5. What makes a spectrum of a wave stays float (:mod:`dfq_deploy.quantization.placement.spectral`).
6. An output that is an input is that input, and not what its Q and DQ make of it
   (:mod:`dfq_deploy.quantization.placement.exact`).
7. What stands behind an operator that ONNX Runtime does not have stays float: it cannot be calibrated.
8. Everything else (BatchNormalization that is left, Softmax, ReduceMean...) stays float. Only float32 tensors are
   touched, so what computes shapes never is.

For ``inputs`` rules 1 and 6 hold, and instead of the others: the branch of an Add that is not a convolution's output is
quantized too, what is quantized of a moving operator's tensors (the inputs of a Concat, say) shares one encoding, and
everything else stays float. For ``everything`` all float tensors are quantized, but for those of rule 6, and those of
rule 2 that lie before the Relu or Clip.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.quantization.placement.exact import exact_values
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits, known_limits
from dfq_deploy.quantization.placement.policies import constant_operands, values_to_quantize
from dfq_deploy.quantization.placement.predicates import obstacle, shared_groups
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.quantization.weights import Bounds, encoding_of_weight, extremes, room_for_bias
from dfq_deploy.runtime.plugin_nodes import behind_plugins
from dfq_deploy.targets.target import Target

__all__ = ["Placement", "encodings_of_weights", "place", "unify", "with_biases"]


BEHIND_PLUGIN = "it stands behind an operator that ONNX Runtime does not have, so it cannot be calibrated"


@dataclass(frozen=True)
class Placement:
    """What is quantized in one model for one target.

    Args:
        activations: name of each tensor that gets Q and DQ -> its integer type, always per tensor.
        shared: groups of those tensors that must have one encoding.
        limits: least and greatest value that a tensor can take, where the operator before it (Relu, Clip) says so:
            its encoding must not reach beyond, or the runtime cannot fold that operator away; or that matters to the
            operators behind it (:mod:`dfq_deploy.quantization.placement.saturation`).
        weights: name of each initializer that is quantized -> its type and channel axis, None for per tensor.
        biases: name of each bias initializer that is stored as int32 -> the activation and the weight whose scales'
            product is its scale; where several nodes read one bias, those of the first. Empty where biases stay float.
        left_float: name, operator and reason of each weighted node that stays float.
        constants: name of each other initializer that is quantized, an Add's or Mul's operand -> its type, per tensor.
        kept: names of the nodes that stay float because somebody asked for it.
    """

    activations: Mapping[str, QuantType]
    shared: tuple[frozenset[str], ...]
    limits: Mapping[str, Limits]
    weights: Mapping[str, tuple[QuantType, int | None]]
    biases: Mapping[str, tuple[str, str]]
    left_float: tuple[tuple[str, str, str], ...]
    constants: Mapping[str, QuantType] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()


KEPT = "kept in float, as asked"


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
    obstacles = {
        node: obstacle(node, target) if node.graph is graph else "it stands inside a subgraph"
        for node in graph.all_nodes()
        if is_op(node, WEIGHTED_OPS)
    }
    obstacles |= {node: reason for node, reason in spectral_nodes(model).items() if obstacles[node] is None}
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
        weights=_weights(graph, heads, target),
        biases={} if target.float_bias else _biases(graph, heads),
        left_float=tuple(
            (node.name or "", node.op_type, reason) for node, reason in obstacles.items() if reason is not None
        ),
        constants=constant_operands(graph, target),
        kept=kept,
    )


def with_biases(placement: Placement, model: ir.Model, target: Target) -> Placement:
    """``placement`` with the biases that ``model`` has by now; bias correction gives some to nodes that had none."""
    if target.float_bias:
        return placement
    heads = {node for node in model.graph if is_op(node, WEIGHTED_OPS) and _is_quantized(node, placement)}
    return replace(placement, biases=_biases(model.graph, heads))


def _is_quantized(node: ir.Node, placement: Placement) -> bool:
    activation, weight = node.inputs[:2]
    return name_of(activation) in placement.activations and name_of(weight) in placement.weights


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


def encodings_of_weights(
    model: ir.Model,
    placement: Placement,
    bounds: Bounds = extremes,
    activations: Mapping[str, Encoding] | None = None,
) -> dict[str, Encoding]:
    """The encoding of each weight and other constant that ``placement`` quantizes.

    Args:
        model: holds the weights.
        placement: names them, with their types and channel axes.
        bounds: what each channel is quantized for.
        activations: encodings of the activations; where given, scales are raised so that every bias fits into int32
            (an exporter has to do that otherwise, and its file then differs from these encodings).
    """
    constants = {
        name: constant.numpy() for name, value in model.graph.initializers.items() if (constant := constant_of(value))
    }
    found = {
        name: encoding_of_weight(constants[name], qtype, axis, bounds)
        for name, (qtype, axis) in placement.weights.items()
    }
    for name, qtype in placement.constants.items():
        found[name] = encoding_of_weight(constants[name], qtype, None)
    if activations is not None:
        for bias, (activation, weight) in placement.biases.items():
            found[weight] = room_for_bias(found[weight], constants[bias], activations[activation])
    return found


def _weights(graph: ir.Graph, heads: set[ir.Node], target: Target) -> dict[str, tuple[QuantType, int | None]]:
    found: dict[str, tuple[QuantType, int | None]] = {}
    for node in graph:
        weight = constant_of(node.inputs[1]) if node in heads else None
        if weight is None:
            continue
        name = name_of(node.inputs[1])
        axis = weight_axis(node) if _is_per_channel(node, weight, target) else None
        # Two readers that disagree on the channel axis can only share one scale for all of it.
        axis = axis if found.get(name, (None, axis))[1] == axis else None
        found[name] = (target.weight if axis is not None else target.weight_per_tensor or target.weight, axis)
    return found


def _is_per_channel(node: ir.Node, weight: ir.TensorProtocol, target: Target) -> bool:
    if not target.per_channel or not is_op(node, target.channel_ops):
        return False
    # The channels of a grouped ConvTranspose lie on two axes of its weight.
    grouped = is_op(node, "ConvTranspose") and node.attributes.get_int("group", 1) != 1
    return not grouped and (not is_op(node, "MatMul") or len(weight.shape) == 2)


def _biases(graph: ir.Graph, heads: set[ir.Node]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for node in graph:
        if node in heads and len(node.inputs) > 2 and node.inputs[2] is not None:
            activation, weight, bias = (name_of(value) for value in node.inputs[:3] if value is not None)
            found.setdefault(bias, (activation, weight))
    return found
