"""Ranges that are not measured: what operators tell, and wider or narrower ones."""

from collections.abc import Collection, Iterable, Iterator, Mapping

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.overrides import Override
from dfq_deploy.verdict.noise.roles import role_of

__all__ = ["HEADROOM", "REMEDIES", "gate_headroom", "known_ranges", "scaled_ranges"]

REMEDIES = "remedies"
"""The place of the entries, for messages."""

HEADROOM = 2.0
"""How much wider than measured a tensor behind global pooling is quantized for."""

BOUNDED = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Least and greatest value of what these write."""

LEAST = {"HardSwish": -0.375, "Gelu": -0.17, "Mish": -0.3089, "Swish": -0.2785}
"""Least value of what these write: x clip(x + 3, 0, 6) / 6 is least at -1.5, x sigmoid(x) at -1.2785."""

SAME = 0.01
"""Part of its span by which a range has to change to be worth a trial."""


def gate_headroom(
    model: ir.Model, encodings: Mapping[str, Encoding], shared: Collection[frozenset[str]] = ()
) -> tuple[Override, ...]:
    """Wider ranges for what lies behind global pooling: a sample gives one value a channel, so tails are not seen.

    Not for what a bounded function writes, whose range is known.

    Args:
        model: the prepared model in float.
        encodings: of what was measured.
        shared: groups of tensors that have one encoding.
    """
    pooled = [value for value in _measured(model, encodings) if role_of(value) == "pooled"]
    return _scaled(pooled, HEADROOM, shared)


def known_ranges(
    model: ir.Model, encodings: Mapping[str, Encoding], shared: Collection[frozenset[str]] = ()
) -> tuple[Override, ...]:
    """The ranges that operators tell, as far as they differ from what was measured.

    Softmax, Sigmoid, HardSigmoid and Tanh are bounded. A hard swish and its like have a least value; where it is one of
    several nodes, as exporters write it, the product says so.

    Args:
        model: the prepared model in float.
        encodings: of what was measured.
        shared: groups of tensors that have one encoding. A range counts for all of a group: it is the union of those
            that the operators tell which write into it, and none where one of them tells nothing.
    """
    values = {name_of(value): value for value in _quantized(model, encodings)}
    told = {name: span for name, value in values.items() if (span := _told(value, encodings[name])) is not None}
    for group in shared:
        spans = [told.get(name) for name in group if name not in values or not _is_moved(values[name], group)]
        union = _union([span for span in spans if span is not None]) if spans and None not in spans else None
        told = {name: span for name, span in told.items() if name not in group}
        told |= {name: union for name in group & values.keys() if union is not None}
    return tuple(_given(values[name], span) for name, span in told.items() if _differs(encodings[name].range, span))


def scaled_ranges(
    model: ir.Model, encodings: Mapping[str, Encoding], factor: float, shared: Collection[frozenset[str]] = ()
) -> tuple[Override, ...]:
    """All measured ranges times ``factor``, but of what bounded functions write.

    Args:
        model: the prepared model in float.
        encodings: of what was measured.
        shared: groups of tensors that have one encoding.
    """
    return _scaled(_measured(model, encodings), factor, shared)


def _measured(model: ir.Model, encodings: Mapping[str, Encoding]) -> list[ir.Value]:
    """What is quantized, but for what a bounded function writes."""
    return [value for value in _quantized(model, encodings) if not is_op(value.producer(), BOUNDED)]  # type: ignore[arg-type]


def _scaled(values: Iterable[ir.Value], factor: float, shared: Collection[frozenset[str]]) -> tuple[Override, ...]:
    """One entry for each encoding: a group would be scaled once for each entry."""
    found: dict[str, Override] = {}
    for value in values:
        name = name_of(value)
        group = next((group for group in shared if name in group), frozenset({name}))
        if group.isdisjoint(found):
            found[name] = Override("tensor", name, REMEDIES, factor=factor, optional=True)
    return tuple(found.values())


def _is_moved(value: ir.Value, group: frozenset[str]) -> bool:
    """True for what an operator writes that only moves other values of the group."""
    producer = value.producer()
    return producer is not None and any(name_of(read) in group for read in producer.inputs if read is not None)


def _union(spans: Collection[Range]) -> Range:
    return Range(min(span.low for span in spans), max(span.high for span in spans))


def _differs(measured: Range, told: Range) -> bool:
    return abs(measured.low - told.low) + abs(measured.high - told.high) > SAME * (measured.high - measured.low)


def _told(value: ir.Value, encoding: Encoding) -> Range | None:
    node = value.producer()
    if node is None:
        return None
    for operator, (low, high) in BOUNDED.items():
        if is_op(node, operator):
            return Range(low, high)
    kind = _swish(node, value)
    return None if kind is None else Range(max(LEAST[kind], encoding.range.low), encoding.range.high)


def _swish(node: ir.Node, value: ir.Value) -> str | None:
    """The function among :data:`LEAST` that ``node`` ends."""
    if node.op_type in LEAST:
        return node.op_type
    if not is_op(node, "Mul") or role_of(value) != "hard-swish":
        return None
    gates = {part.producer().op_type for part in node.inputs if part is not None and part.producer() is not None}  # type: ignore[union-attr]
    return "Swish" if "Sigmoid" in gates else "HardSwish"


def _quantized(model: ir.Model, encodings: Mapping[str, Encoding]) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from (value for value in node.outputs if name_of(value) in encodings)


def _given(value: ir.Value, span: Range) -> Override:
    return Override("tensor", name_of(value), REMEDIES, range=span, optional=True)
