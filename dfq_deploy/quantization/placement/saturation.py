"""Find the interval beyond which the consumers of a tensor saturate.

A hard swish maps everything below -3 to 0: integers that stand for values down to -20 would be wasted. A swish does
nearly so below -6.
"""

from collections.abc import Collection, Mapping
from math import inf

import onnx_ir as ir

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits

__all__ = ["saturations"]

MARGIN = 1 / 16
"""Margin around the interval, relative to the distance from zero: half a step of a range up to 30 times as wide.

Every encoding represents zero exactly.
"""

FLAT: Mapping[str, Limits] = {
    "Sigmoid": (-10.0, 10.0), "Tanh": (-5.0, 5.0), "Swish": (-6.0, inf), "Mish": (-6.0, inf), "Gelu": (-4.0, inf)
}  # fmt: skip
"""Beyond these points a function differs by less than 0.015 from what it tends to (Sigmoid and Tanh by less than 1e-4).
An input of 8 bits that reaches that far has steps of 6 / 255 = 0.024 or more, which are larger."""

NO_GATE = -6.0
"""Below this point the product of a value and its Sigmoid is as flat as a Swish."""

DEPTH = 8
"""Largest number of operators that are followed; a hard swish of any exporter, with scale and shift, has fewer."""


def saturations(values: Collection[ir.Value]) -> dict[str, Limits]:
    """Return the interval within which the consumers of each tensor distinguish its values.

    Rules: (1) Relu, Clip, HardSigmoid and HardSwish saturate as they are defined, and the functions of :data:`FLAT` up
    to what 8 bits do not tell apart; (2) a scale and a shift by one constant (Mul, Div, Add, Sub) before them move the
    interval; (3) the product of a value and its own gate, which is zero below some point, however it is scaled
    afterwards (Clip, HardSigmoid), or nearly zero (Sigmoid), is zero below that point: a hard swish or a swish as
    exporters write it; (4) the interval of a tensor with several consumers is the union of theirs, and a graph output
    is unbounded.

    A margin is added, since rounding the zero point moves an encoding by up to half a step: if it ended above -3, a
    hard swish would map all clipped values to the same small number instead of zero.

    Returns:
        name -> interval, without tensors whose consumers do not saturate.
    """
    intervals = {name_of(value): _relevant_interval(value, DEPTH) for value in values}
    return {
        name: (low - MARGIN * abs(low), high + MARGIN * abs(high))
        for name, (low, high) in intervals.items()
        if (low, high) != UNBOUNDED
    }


def _relevant_interval(value: ir.Value, depth: int) -> Limits:
    """Return the interval within which the consumers of ``value`` distinguish its values."""
    readers = [use.node for use in value.uses()]
    if value.is_graph_output() or not readers or depth == 0:
        return UNBOUNDED
    gate = _gate_of(value, readers)
    if gate is not None:
        return gate
    spans = [_interval_of_reader(value, reader, depth) for reader in readers]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _interval_of_reader(value: ir.Value, node: ir.Node, depth: int) -> Limits:
    if node.inputs[0] is value and is_op(node, ("Relu", "Clip", "HardSigmoid", "HardSwish")):
        return _definition(node)
    if is_op(node, FLAT) and node.attributes.get_float("alpha", 1.0) == 1:
        return FLAT[node.op_type]
    step = _affine(value, node)
    if step is None:
        return UNBOUNDED
    scale, shift = step
    ends = [(end - shift) / scale for end in _relevant_interval(node.outputs[0], depth - 1)]
    return min(ends), max(ends)


def _definition(node: ir.Node) -> Limits:
    if is_op(node, "Clip"):
        bounds = [_scalar(value) for value in (*node.inputs[1:3], None, None)[:2]]
        computed = any(
            value is not None and bound is None for value, bound in zip(node.inputs[1:3], bounds, strict=False)
        )
        low, high = (-inf if bounds[0] is None else bounds[0]), (inf if bounds[1] is None else bounds[1])
        return UNBOUNDED if computed or low > high else (low, high)
    if is_op(node, "HardSigmoid"):
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else UNBOUNDED
    return (-3.0, inf) if is_op(node, "HardSwish") else (0.0, inf)


def _affine(value: ir.Value, node: ir.Node) -> tuple[float, float] | None:
    """Return scale and shift of a node that computes ``scale * value + shift`` with one constant; else None."""
    if not is_op(node, ("Mul", "Div", "Add", "Sub")) or len(node.inputs) != 2:
        return None
    first = node.inputs[0] is value
    constant = _scalar(node.inputs[1 if first else 0])
    if constant is None or node.inputs[0] is node.inputs[1]:
        return None
    if is_op(node, ("Add", "Sub")):
        sign = -1.0 if is_op(node, "Sub") else 1.0
        return (1.0, sign * constant) if first else (sign, constant)
    if constant == 0 or (is_op(node, "Div") and not first):
        return None
    return (constant, 0.0) if is_op(node, "Mul") else (1 / constant, 0.0)


def _gate_of(value: ir.Value, readers: list[ir.Node]) -> Limits | None:
    """Apply rule 3: ``value`` is read by a gate and by the product with that gate, and by no other node."""
    if len(readers) != 2:
        return None
    for product, gate in (readers, readers[::-1]):
        if not is_op(product, "Mul") or len(product.inputs) != 2:
            continue
        other = product.inputs[1 if product.inputs[0] is value else 0]
        low = _zero_below(value, gate, other)
        if low is not None:
            return (low, inf)
    return None


def _zero_below(value: ir.Value, node: ir.Node, end: ir.Value | None) -> float | None:
    """Return the point below which the gate that starts at ``node`` and ends in ``end`` is zero, or nearly so."""
    scale, shift, current, low = 1.0, 0.0, value, None
    for _ in range(DEPTH):
        step = _affine(current, node)
        if step is not None and low is None:
            scale, shift = scale * step[0], shift * step[0] + step[1]
        elif is_op(node, ("Clip", "HardSigmoid")) and low is None and _has_zero_minimum(node) and scale > 0:
            low = (_definition(node)[0] - shift) / scale
        elif is_op(node, "Sigmoid") and low is None and scale > 0:
            low = (NO_GATE - shift) / scale
        elif step is None or step[1] != 0 or low is None:
            return None
        current = node.outputs[0]
        if current is end:
            return low
        readers = [use.node for use in current.uses()]
        if len(readers) != 1 or current.is_graph_output():
            return None
        node = readers[0]
    return None


def _has_zero_minimum(node: ir.Node) -> bool:
    return is_op(node, "HardSigmoid") or _definition(node)[0] == 0


def _scalar(value: ir.Value | None) -> float | None:
    constant = constant_of(value)
    return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None
