"""Ranges of a whole float model, and encodings from them."""

from collections.abc import Collection, Mapping

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.placement.limits import known_limits
from dfq_deploy.quantization.placement.place import encodings_of_weights, unify
from dfq_deploy.quantization.weights import best_bounds
from dfq_deploy.runtime.plugin_nodes import behind_plugins

__all__ = ["derive_ranges", "encodings_of_ranges", "float_tensors"]

WITHIN_INPUT = frozenset(
    {"AveragePool", "Clip", "Concat", "Dropout", "Expand", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool"}
    | {"Identity", "MaxPool", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that write nothing beyond what they read (zero, which every range holds, aside)."""

WITHIN_OUTPUT = frozenset(
    {"Concat", "Dropout", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that read nothing beyond what they write."""

SHOWN = 5


def float_tensors(model: ir.Model) -> tuple[str, ...]:
    """Names of all float32 tensors of the main graph that are fed, or that ONNX Runtime can compute, in order."""
    behind = behind_plugins(model)
    values = [*model.graph.inputs, *(value for node in model.graph if node not in behind for value in node.outputs)]
    named = (value for value in values if value.name and constant_of(value) is None)
    return tuple(dict.fromkeys(name_of(value) for value in named if value.type == ir.TensorType(ir.DataType.FLOAT)))


def derive_ranges(
    model: ir.Model, known: Mapping[str, Range], wanted: Collection[str]
) -> tuple[dict[str, Range], list[str]]:
    """The ranges of those of ``wanted`` that ``known`` has, or that lie within what it has.

    Rules: (1) what only moves, bounds or averages values (Reshape, Relu, MaxPool...) writes no more than the union of
    what it reads; (2) what only moves values reads no more than what it writes; both over any number of such nodes.

    Returns:
        name -> range, without those that cannot be told; and ``NAME from OTHER`` for each that was not known.
    """
    values = {value.name: value for node in model.graph for value in (*node.inputs, *node.outputs) if value is not None}
    found, said = {}, []
    for name in wanted:
        if name in known:
            found[name] = known[name]
        elif name in values:
            sources = _sources(values[name], known, set())
            if sources:
                spans = [known[source] for source in sources]
                found[name] = Range(min(span.low for span in spans), max(span.high for span in spans))
                said.append(f"{name} from {', '.join(sources)}")
    return found, said


def _sources(value: ir.Value, known: Mapping[str, Range], seen: set[ir.Value]) -> list[str]:
    """Names in ``known`` whose ranges together hold ``value``; empty where there are none."""
    name = name_of(value)
    if name in known:
        return [name]
    seen.add(value)
    node = value.producer()
    if node is not None and _is_within_input(node):
        read = node.inputs if is_op(node, "Concat") else node.inputs[:1]
        parts = [_sources(part, known, seen) for part in read if part is not None and part not in seen]
        if parts and all(parts):
            return list(dict.fromkeys(source for part in parts for source in part))
    for reader, index in value.uses():
        moves = is_op(reader, WITHIN_OUTPUT) and (index == 0 or is_op(reader, "Concat"))
        if moves and reader.outputs[0] not in seen:
            written = _sources(reader.outputs[0], known, seen)
            if written:
                return written
    return []


def _is_within_input(node: ir.Node) -> bool:
    # A Clip that cuts zero away can lift values beyond what it reads; it has no limits here.
    bounded = not is_op(node, "Clip") or known_limits([node], set(node.outputs))
    return is_op(node, WITHIN_INPUT) and bool(bounded)


def encodings_of_ranges(
    source: ir.Model, prepared: Prepared, known: Mapping[str, Range], place: str
) -> tuple[dict[str, Encoding], tuple[str, ...]]:
    """Encodings for all that ``prepared`` quantizes, from ranges of the float model ``source`` by tensor name.

    Args:
        place: where the ranges come from, for messages.

    Returns:
        the encodings, weights included, and a sentence on what was derived or had no use.

    Raises:
        ModelError: a tensor that is quantized has no range, and none follows from its neighbors.
    """
    model, placement = prepared.model, prepared.placement
    wanted = placement.activations
    named = set(float_tensors(source))
    unknown = [name for name in known if name not in named]
    if known and len(unknown) == len(known):
        raise ModelError(f"{place}: none of its {len(known)} tensors is in the model; it belongs to another one")
    found, said = derive_ranges(model, known, wanted)
    ranges = unify(found, placement)
    missing = [name for name in wanted if name not in ranges]
    if missing:
        raise ModelError(
            f"{place}: no range for {len(missing)} of the {len(wanted)} tensors that {prepared.target.name} quantizes "
            f"({_shown(missing)}), and none follows from their neighbors; calibrate the model: dfq-deploy calibrate"
        )
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in wanted.items()}
    encodings |= encodings_of_weights(model, placement, best_bounds, activations=encodings)
    notes = []
    if said:
        notes.append(f"{place} lacks {len(said)} tensor(s) that are quantized; their ranges follow: {_shown(said)}")
    if unknown:
        notes.append(
            f"{place}: {len(unknown)} of its {len(known)} tensors are not in the model ({_shown(unknown)}); was it "
            "calibrated on this file?"
        )
    return encodings, tuple(notes)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{'; '.join(names[:SHOWN])}{more}"
