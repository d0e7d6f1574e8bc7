"""Weights in blocks: MatMulNBits of ONNX Runtime."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.weight_blocks import BLOCK, BlockWeight, block_weight

__all__ = ["write_blocks"]

MICROSOFT = "com.microsoft"

ACCURACY = 4
"""``accuracy_level`` at which the kernel multiplies integers: each block of an activation is rounded to 8 bits as it
runs, which is faster than float; products of floats are slower."""


def write_blocks(model: ir.Model, names: Names) -> None:
    """Let the nodes of :func:`dfq_deploy.quantization.weight_blocks.mark_blocks` read their blocks, in place."""
    stored: dict[int, tuple[ir.Value, ...]] = {}
    for node in [node for node in model.graph if block_weight(node) is not None]:
        weight = block_weight(node)
        if weight is None:
            continue
        if id(weight) not in stored:
            stored[id(weight)] = _constants(model.graph, weight, name_of(node.inputs[1]), names)
        _replace(model.graph, node, weight, stored[id(weight)], names)
        model.opset_imports.setdefault(MICROSOFT, 1)


def _constants(graph: ir.Graph, weight: BlockWeight, name: str, names: Names) -> tuple[ir.Value, ...]:
    """Codes, scales and zero points as the kernel reads them."""
    arrays: dict[str, NDArray[Any]] = {
        "blocks": _packed(weight.codes, weight.bits),
        "scales": weight.scale.reshape(-1),
        "zero_points": _packed(weight.zero_point, weight.bits).reshape(-1),
    }
    return tuple(add_constant(graph, names.fresh(f"{name}_{what}"), array) for what, array in arrays.items())


def _packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two codes of 4 bits in a byte, the first in its lower half; an odd last one alone."""
    if bits == 8:
        return codes
    even = np.concatenate([codes, np.zeros((*codes.shape[:-1], codes.shape[-1] % 2), np.uint8)], axis=-1)
    packed: NDArray[np.uint8] = even[..., ::2] | (even[..., 1::2] << 4)
    return packed


def _replace(
    graph: ir.Graph, node: ir.Node, weight: BlockWeight, constants: tuple[ir.Value, ...], names: Names
) -> None:
    """Put the product, and the Add of a bias, in the place of ``node``."""
    attributes = {"K": weight.inputs, "N": len(weight.codes), "bits": weight.bits, "block_size": BLOCK}
    attributes["accuracy_level"] = ACCURACY
    old = node.outputs[0]
    product = ir.node("MatMulNBits", [node.inputs[0], *constants], attributes, domain=MICROSOFT, name=node.name)
    steps = [product]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        product.outputs[0].name = names.fresh(f"{node.name}_product")
        product.outputs[0].type = old.type
        steps.append(ir.node("Add", [product.outputs[0], bias], name=names.fresh(f"{node.name}_bias")))
    graph.insert_before(node, steps)
    new, name = steps[-1].outputs[0], old.name
    new.type, new.shape = old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    old.name, new.name = None, name
