"""Values behind the functions that read a tensor, where these are flat for a part of its values.

A Sigmoid writes nearly the same for -9 and for -11: a range that ends between them clips, and does no harm. How much of
the noise of a tensor matters shows in what such functions write.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.convenience import extract

from dfq_deploy.evaluation.scale_check import excess_of, power_of
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.runtime.session import Session, session_options

__all__ = ["excess_behind"]

FUNCTIONS = frozenset({"Sigmoid", "Tanh", "Swish", "Mish", "Gelu", "HardSigmoid", "HardSwish"})
"""Functions that are flat below some value, or above it."""

ELEMENTWISE = FUNCTIONS | {"Mul", "Div", "Add", "Sub", "Clip"}
"""Operators that compute each value from one of the tensor, where their other inputs are one number each."""

UNIT = frozenset({"Sigmoid", "HardSigmoid"})
"""Operators that write 0 to 1, which the integers behind them stand for."""

MOST = 12
"""Nodes that are followed; a hard swish of any exporter has fewer."""

IR_VERSION = 10
"""Of the model of a part; any that ONNX Runtime reads."""

Floats = NDArray[np.floating[Any]]


def excess_behind(value: ir.Value, exact: Floats, given: Floats, best: Floats, bits: int) -> float | None:
    """Noise of ``given`` behind the readers of a tensor, in dB above that of ``best`` and of rounding to ``bits``.

    Of several tensors that the readers write the worst counts.

    Args:
        value: of the float model.
        exact: its values.
        given: the same as the quantized file rounds them.
        best: as a good scale does.
        bits: of the integers behind the readers.

    Returns:
        None where none of the readers is flat, or where one tells all values apart.
    """
    nodes, ends = _elementwise(value)
    if not any(is_op(node, FUNCTIONS) for node in nodes) or not ends:
        return None
    session = Session(_part(value, ends), session_options(quiet_threads=True), ["CPUExecutionProvider"])
    wanted, found, rounded = (
        session.run(None, {name_of(value): rows.astype(np.float32)}) for rows in (exact, given, best)
    )
    excess = []
    for end, *arrays in zip(ends, wanted, found, rounded, strict=True):
        first, second, third = (array.astype(np.float64) for array in arrays)
        producer = end.producer()
        unit = producer is not None and is_op(producer, UNIT)
        span = max(float(first.max()), float(unit)) - min(float(first.min()), 0.0)
        step = span / (2**bits - 1)
        least = max(power_of(third - first), step**2 / 12 * first.size)
        excess.append(excess_of(power_of(second - first), least, first))
    return max(excess)


def _elementwise(value: ir.Value) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes behind a tensor that compute each value from one of it, and those of what they write that others read.

    No tensors where others read ``value`` itself.
    """
    graph, nodes, reached = value.graph, list[ir.Node](), {value}
    for node in () if graph is None else graph:
        if len(nodes) < MOST and _computes_alone(node, reached):
            nodes.append(node)
            reached.add(node.outputs[0])
    ends = [entry for entry in reached if entry.is_graph_output() or any(use.node not in nodes for use in entry.uses())]
    return nodes, [] if value in ends else ends


def _computes_alone(node: ir.Node, reached: Collection[ir.Value]) -> bool:
    if not is_op(node, ELEMENTWISE):
        return False
    constants = [constant_of(entry) for entry in node.inputs]
    others = [entry for entry, constant in zip(node.inputs, constants, strict=True) if constant is None and entry]
    return bool(others) and set(others) <= set(reached) and all(one is None or one.size == 1 for one in constants)


def _part(value: ir.Value, ends: Sequence[ir.Value]) -> ir.Model:
    """The model that computes ``ends`` of values of any shape."""
    assert value.graph is not None  # it has readers
    graph = extract(value.graph, [value], ends)
    model = ir.Model(graph, ir_version=IR_VERSION)
    for entry in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        entry.shape = None
    return model
