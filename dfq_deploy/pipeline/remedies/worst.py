"""Find the nodes to keep in float, the noisiest layers first."""

from collections.abc import Collection, Iterator

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of, weighted_nodes
from dfq_deploy.graph.traversal import walk
from dfq_deploy.quantization.dynamic import dynamic_form
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.verdict.noise.what_hurts import WhatHurts

__all__ = ["depthwise_nodes", "nodes_to_keep"]

COUNTS = (1, 2, 4, 8)


def nodes_to_keep(model: ir.Model, hurts: WhatHurts) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Numbers of layers, the noisiest first, and the nodes that have to stay float for them.

    At least half of the layers stay quantized, or half of their weights: a float model is not what was asked for, but
    a few small convolutions before an LSTM that holds most of a model may all be float. A layer whose noise comes from
    its weight stays float alone. Where it comes from what the layer reads, or the cause is not known, so do the
    weighted nodes that write that: an integer kernel before it would round it all the same. Layers that there was no
    time to measure alone are left out: nothing is known of them.

    Args:
        model: the prepared model.
        hurts: what was measured of it.
    """
    nodes = {str(node.name): node for node in model.graph}
    causes = {layer.layer.node: layer.causes for layer in hurts.worst}
    layers = [layer for layer in hurts.sensitivity.layers if layer.share > 0 and layer.measured]
    quantized = sum(nodes[layer.node].op_type in WEIGHTED_OPS for layer in hurts.sensitivity.layers)
    weights = _weights(model, {layer.node for layer in hurts.sensitivity.layers})
    kept: list[tuple[str, ...]] = []
    for layer in layers[: COUNTS[-1]]:
        known = causes.get(layer.node, ())
        own = [layer.node] if nodes[layer.node].op_type in WEIGHTED_OPS else []
        reads = [] if known and known[0].tensor == layer.weight else list(layer.activations)
        writers = [name for read in reads for name in _writers(nodes[layer.node], read)]
        kept.append(tuple(dict.fromkeys([*own, *writers])))
    for count in COUNTS:
        if count // 2 < len(kept):
            chosen = tuple(dict.fromkeys(name for names in kept[:count] for name in names))
            few = 2 * len(chosen) <= quantized or 2 * sum(weights.get(n, 0) for n in chosen) <= sum(weights.values())
            if chosen and few:
                yield min(count, len(kept)), chosen


def _weights(model: ir.Model, quantized: Collection[str]) -> dict[str, int]:
    """How many weights each quantized node has, those with dynamic activations among them."""
    found = {}
    for node in model.graph:
        if str(node.name) in quantized or dynamic_form(node) is not None:
            parts = (constant_of(value) for value in node.inputs[1:3])
            found[str(node.name)] = sum(part.size for part in parts if part is not None and len(part.shape) > 1)
    return found


def depthwise_nodes(prepared: Prepared) -> tuple[str, ...]:
    """The quantized depthwise convolutions, where other layers stay quantized beside them."""
    weighted = [
        node for node in weighted_nodes(prepared.model) if name_of(node.inputs[1]) in prepared.placement.weights
    ]
    found = tuple(str(node.name) for node in weighted if _is_depthwise(node))
    return found if len(found) < len(weighted) else ()


def _is_depthwise(node: ir.Node) -> bool:
    weight = constant_of(node.inputs[1])
    grouped = is_op(node, "Conv") and node.attributes.get_int("group", 1) > 1
    return grouped and weight is not None and weight.shape[1] == 1


def _writers(node: ir.Node, tensor: str) -> list[str]:
    """The weighted nodes nearest before ``tensor``, which ``node`` reads."""

    def sources(step: ir.Node) -> list[ir.Node]:
        if is_op(step, WEIGHTED_OPS):
            return []
        values = [value for value in step.inputs if value is not None and constant_of(value) is None]
        return [producer for value in values if (producer := value.producer()) is not None]

    starts = [
        value.producer() for value in (*node.inputs, *node.outputs) if value is not None and name_of(value) == tensor
    ]
    steps = walk([step for step in starts if step is not None], sources)
    return [str(step.name) for step in steps if is_op(step, WEIGHTED_OPS)]
