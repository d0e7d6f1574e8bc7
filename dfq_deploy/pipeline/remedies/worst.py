"""Find the nodes to keep in float, the noisiest layers first."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of, weighted_nodes
from dfq_deploy.graph.traversal import walk
from dfq_deploy.quantization.dynamic import dynamic_form
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.verdict.noise.sensitivity import LayerNoise
from dfq_deploy.verdict.noise.what_hurts import WhatHurts

__all__ = ["Rung", "depthwise_nodes", "nodes_to_keep", "reads_swishes"]

RECTIFIERS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", *WEIGHTED_OPS})
"""What a positive factor goes through, or nearly so; a layer without any function behind it is one too."""

MOST = 64
"""Layers that are looked at, the noisiest first."""


@dataclass(frozen=True)
class Rung:
    """Some of the noisiest layers, to be kept in float.

    Args:
        count: layers.
        nodes: that have to stay float for them.
        gain: dB at the outputs to expect of it, if noise adds up.
    """

    count: int
    nodes: tuple[str, ...]
    gain: float


def nodes_to_keep(model: ir.Model, hurts: WhatHurts, kept: Collection[str] = ()) -> tuple[Rung, ...]:
    """1, 2, 4, ... of the noisiest layers, and as many as may be, with the nodes that have to stay float for them.

    At least half of the layers stay quantized, or half of their weights: a float model is not what was asked for, but
    a few small convolutions before an LSTM that holds most of a model may all be float. A layer whose noise comes from
    its weight stays float alone. Where it comes from what the layer reads, or the cause is not known, so do the
    weighted nodes that write that: an integer kernel before it would round it all the same. Layers that there was no
    time to measure alone stay float with the neighbors that they were measured with, or not at all.

    Args:
        model: the prepared model.
        hurts: what was measured of it.
        kept: nodes that stay float already, and would be quantized otherwise.
    """
    nodes = {str(node.name): node for node in model.graph}
    causes = {layer.layer.node: layer.causes for layer in hurts.worst}
    names = {layer.node for layer in hurts.sensitivity.layers} | set(kept)
    layers_in_all = sum(name in nodes and nodes[name].op_type in WEIGHTED_OPS for name in names)
    weights = _weights(model, names)
    floats = {name for name in kept if name in nodes and nodes[name].op_type in WEIGHTED_OPS}
    chosen: dict[str, None] = {}
    share, count, found = 0.0, 0, list[Rung]()
    for group in _groups(hurts.sensitivity.layers):
        more: dict[str, None] = {}
        for layer in group:
            known = causes.get(layer.node, ())
            own = [layer.node] if nodes[layer.node].op_type in WEIGHTED_OPS else []
            reads = [] if known and known[0].tensor == layer.weight else list(layer.activations)
            writers = [name for read in reads for name in _writers(nodes[layer.node], read)]
            more |= dict.fromkeys([*own, *writers])
        left = floats | set(chosen) | set(more)
        few = 2 * len(left) <= layers_in_all or 2 * sum(weights.get(n, 0) for n in left) <= sum(weights.values())
        if not few:  # a later one may be smaller
            continue
        chosen |= more
        share, count = share + sum(layer.share for layer in group), count + len(group)
        if chosen:
            found.append(Rung(count, tuple(chosen), -10 * math.log10(max(1 - share, 1e-3))))
    return tuple(
        rung
        for before, rung in zip((0, *(rung.count for rung in found)), found, strict=False)
        if rung.count.bit_length() > before.bit_length() or rung is found[-1]
    )


def _groups(layers: Sequence[LayerNoise]) -> Iterator[tuple[LayerNoise, ...]]:
    """The noisiest first: each layer alone, or with its neighbors where the noise of all of them is known alone."""
    seen = 0
    noisy = [layer for layer in layers if layer.share > 0]
    for (alone, _, _), members in groupby(noisy, lambda layer: (layer.measured, layer.own_snr, layer.share)):
        together = tuple(members)
        parts = [(layer,) for layer in together] if alone else [together]
        for part in parts:
            if seen < MOST:
                yield part
            seen += len(part)


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


def reads_swishes(prepared: Prepared, names: Collection[str]) -> bool:
    """True where most of these nodes read what no rectifier wrote: no scale can be moved across it to equalize."""
    nodes = [node for node in prepared.model.graph if str(node.name) in names]
    writers = [None if node.inputs[0] is None else node.inputs[0].producer() for node in nodes]
    return 2 * sum(writer is not None and is_op(writer, RECTIFIERS) for writer in writers) < len(nodes)


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
