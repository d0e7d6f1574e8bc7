"""Find the quantized layers of a float graph and which of their tensors have encodings."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.targets.catalog import find_target

__all__ = ["QuantizedLayer", "quantized_layers"]

MOVING = find_target("cpu").passing_ops
"""Operators that change no value: rounding before and behind them at one scale is rounding once."""

FUSED = frozenset({"Relu", "Clip"})
"""What may stand between a layer and the tensor that is quantized."""


@dataclass(frozen=True)
class QuantizedLayer:
    """One node of the main graph whose inputs are rounded to integers.

    A tensor that several nodes read belongs to each of them: its noise takes another way through each. One that leaves
    the graph belongs to the node that writes it.

    Args:
        node, operator: name and operator.
        reads: position and tensor of each input that has an encoding.
        writes: position and tensor of each output that has one and leaves the graph.
        weight: the constant among ``reads``; empty where there is none.
        activations: the others.
        output: the tensor behind the layer that has an encoding, perhaps behind its Relu or Clip; empty where the layer
            writes float.
    """

    node: str
    operator: str
    reads: tuple[tuple[int, str], ...]
    writes: tuple[tuple[int, str], ...]
    weight: str
    activations: tuple[str, ...]
    output: str


def quantized_layers(model: ir.Model, encodings: Mapping[str, Encoding]) -> tuple[QuantizedLayer, ...]:
    """The quantized layers, in the graph's order.

    Args:
        model: the prepared model in float (:func:`dfq_deploy.quantization.encode.prepare`), with the tensor names that
            ``encodings`` use.
    """
    found = []
    for node in model.graph:
        reads = tuple((place, name_of(value)) for place, value in enumerate(node.inputs) if name_of(value) in encodings)
        writes = tuple(
            (place, name_of(value))
            for place, value in enumerate(node.outputs)
            if name_of(value) in encodings and value.is_graph_output()
        )
        if (reads or writes) and (writes or not _only_moves(node, reads, encodings)):
            constants = [name for place, name in reads if constant_of(node.inputs[place]) is not None]
            activations = tuple(dict.fromkeys(name for _, name in reads if name not in constants))
            found.append(
                QuantizedLayer(
                    str(node.name), node.op_type, reads, writes, (constants or [""])[0], activations,
                    _encoded_output(node, encodings),
                )
            )  # fmt: skip
    return tuple(found)


def _only_moves(node: ir.Node, reads: tuple[tuple[int, str], ...], encodings: Mapping[str, Encoding]) -> bool:
    """True for a node that moves values within one encoding: its readers round them the same way."""
    behind = encodings.get(name_of(node.outputs[0]))
    if node.op_type not in MOVING or node.op_type in WEIGHTED_OPS or behind is None:
        return False
    return all(_same(encodings[name], behind) for _, name in reads)


def _same(first: Encoding, second: Encoding) -> bool:
    return (
        first.qtype == second.qtype
        and np.array_equal(first.scale, second.scale)
        and np.array_equal(first.zero_point, second.zero_point)
    )


def _encoded_output(node: ir.Node, encodings: Mapping[str, Encoding]) -> str:
    value = node.outputs[0]
    readers = [use.node for use in value.uses()]
    if name_of(value) not in encodings and len(readers) == 1 and readers[0].op_type in FUSED:
        value = readers[0].outputs[0]
    return name_of(value) if name_of(value) in encodings else ""
