"""Insert copies of activations for layers with fewer than 8 bits."""

import onnx_ir as ir

from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import weighted_nodes
from dfq_deploy.quantization.bit_widths import Bits, edge_layers, is_channel_scale
from dfq_deploy.quantization.placement.predicates import mark_narrow_copy
from dfq_deploy.samples.batches import tensors_of_known_range

__all__ = ["add_narrow_copies"]


def add_narrow_copies(model: ir.Model, bits: Bits) -> None:
    """Insert an Identity, in place, before layers with fewer than 8 bits whose input other operators read too.

    A residual sum then adds values that were rounded to 8 bits, and only the convolution reads fewer bits.
    """
    rest = max(8, bits.activations)
    if min(bits.activations, *(activation_bits for _, activation_bits in (bits.layers or {}).values()), rest) >= rest:
        return
    edges = edge_layers([node for node in weighted_nodes(model) if node.graph is model.graph])
    names = Names(model.graph)
    layers = {node for node in model.graph if is_op(node, WEIGHTED_OPS) and not is_channel_scale(node)}
    fixed = tensors_of_known_range(model)
    for value in [value for node in model.graph for value in node.outputs]:
        readers = [use for use in value.uses() if use.node in layers and use.idx < 2]
        if not readers or len(readers) == len(value.uses()) or value.name in fixed:
            continue
        if max(bits.of_layer(use.node, edges)[1] for use in readers) >= rest:
            continue
        identity = ir.node("Identity", [value], name=names.fresh(f"{value.name}_Identity"))
        mark_narrow_copy(identity)
        copy = identity.outputs[0]
        copy.name, copy.type, copy.shape = names.fresh(f"{value.name}_narrow"), value.type, value.shape
        producer = value.producer()
        assert producer is not None
        model.graph.insert_after(producer, [identity])
        for use in readers:
            use.node.replace_input_with(use.idx, copy)
