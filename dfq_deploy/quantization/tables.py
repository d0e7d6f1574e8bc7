"""Tables that a Gather looks rows up in (embeddings), as integers.

Only the rows that are looked up are dequantized. With one scale for each column (dimension of the embedding) a table
has 44 dB of signal to noise, with one for all 33 (MiniLM's 30,522 by 384): columns differ much more than rows.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.quantization.weights import encoding_of_weight
from dfq_deploy.targets.target import Target

__all__ = ["encodings_of_tables", "is_lookup", "is_marked", "mark_lookups", "quantized_tables", "tied_weights"]

LOOKUP = "dfq_deploy.lookup"
"""Key in the ``meta`` of a Gather; it is not written to a file."""

FEWEST_VALUES = 2**12
"""Smallest table: below, the two operators that dequantize its rows cost more than the bytes are worth."""


def is_lookup(node: ir.Node) -> bool:
    """True for a Gather of the rows of a constant float table of rank 2."""
    table = constant_of(node.inputs[0]) if is_op(node, "Gather") else None
    return (
        table is not None
        and table.dtype == ir.DataType.FLOAT
        and len(table.shape) == 2
        and node.attributes.get_int("axis", 0) % 2 == 0
    )


def quantized_tables(
    model: ir.Model, target: Target, quantized_nodes: Collection[ir.Node], kept: frozenset[str] = frozenset()
) -> dict[str, tuple[QuantType, int | None]]:
    """Name of each table that is quantized -> its type and channel axis.

    The channels are the columns. Where the table is the weight of a quantized layer too (tied embeddings), as it is or
    transposed, they are those of the layer.

    Args:
        quantized_nodes: the weighted nodes that are quantized.
        kept: names of nodes that stay float.
    """
    found: dict[str, tuple[QuantType, int | None]] = {}
    for node in model.graph.all_nodes() if target.quantized_tables else ():
        value = node.inputs[0] if is_lookup(node) else None
        table = constant_of(value)
        if value is None or table is None or table.size < FEWEST_VALUES or name_of(value) in found:
            continue
        others = [use.node for use in value.uses() if not is_lookup(use.node) or use.node.name in kept]
        layers = [other for other in others if other in quantized_nodes and is_op(other, WEIGHTED_OPS)]
        if len(layers) == len(others):
            axes = {weight_axis(layer) for layer in layers} or {0 if any(_transposed(value, quantized_nodes)) else 1}
            found[name_of(value)] = (target.weight, axes.pop() if len(axes) == 1 else None)
    return found


def tied_weights(model: ir.Model, tables: Collection[str]) -> frozenset[str]:
    """Names of weights that are one of ``tables``, transposed: they are stored once if their scales are the same."""
    values = [model.graph.initializers[name] for name in tables if name in model.graph.initializers]
    nodes = tuple(model.graph)
    return frozenset(name_of(weight) for table in values for weight in _transposed(table, nodes))


def mark_lookups(model: ir.Model, tables: Collection[str]) -> None:
    """Mark, in place, the Gathers that look up rows in ``tables``, so that exporters write these as integers."""
    for node in model.graph.all_nodes():
        if is_lookup(node) and name_of(node.inputs[0]) in tables:
            node.meta[LOOKUP] = True


def is_marked(node: ir.Node) -> bool:
    """True for a Gather that :func:`mark_lookups` has marked."""
    return LOOKUP in node.meta


def _transposed(table: ir.Value, nodes: Collection[ir.Node]) -> Iterator[ir.Value]:
    """The weights of ``nodes`` that are the transposed ``table``."""
    own = constant_of(table)
    for node in nodes:
        value = node.inputs[1] if is_op(node, "MatMul") else None
        weight = constant_of(value)
        if value is None or weight is None or own is None:
            continue
        if list(weight.shape) == list(own.shape)[::-1] and np.array_equal(weight.numpy().T, own.numpy()):
            yield value


def encodings_of_tables(
    tables: Mapping[str, tuple[QuantType, int | None]],
    weights: Mapping[str, Encoding],
    constants: Mapping[str, NDArray[np.floating]],
) -> dict[str, Encoding]:
    """The encoding of each table; that of a layer's weight where it is the same one, or the same one transposed.

    Args:
        weights: encodings of the weights of layers.
        constants: values by name.
    """
    found = {}
    for name, (qtype, axis) in tables.items():
        if name in weights:
            continue
        same = [
            encoding
            for weight, encoding in weights.items()
            if axis == 0 and encoding.axis == 1 and np.array_equal(constants[weight].T, constants[name])
        ]
        found[name] = replace(same[0], axis=0) if same else encoding_of_weight(constants[name], qtype, axis)
    return found
