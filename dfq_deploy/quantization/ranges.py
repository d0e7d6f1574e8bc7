"""Derive ranges from known ones, and compute encodings from them."""

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
"""Operators whose outputs lie within the range of their inputs, or are zero, which every range contains."""

WITHIN_OUTPUT = frozenset(
    {"Concat", "Dropout", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators whose inputs lie within the range of their outputs."""

LISTED = 5


def float_tensors(model: ir.Model) -> tuple[str, ...]:
    """Return the names of all float32 inputs and tensors of the main graph that ONNX Runtime can compute, in order."""
    behind = behind_plugins(model)
    values = [*model.graph.inputs, *(value for node in model.graph if node not in behind for value in node.outputs)]
    named = (value for value in values if value.name and constant_of(value) is None)
    return tuple(dict.fromkeys(name_of(value) for value in named if value.type == ir.TensorType(ir.DataType.FLOAT)))


def derive_ranges(
    model: ir.Model, known: Mapping[str, Range], names: Collection[str]
) -> tuple[dict[str, Range], list[str]]:
    """Return the ranges of the tensors ``names`` that are in ``known`` or follow from it.

    Rules: (1) the output range of an operator that only moves, bounds or averages values (Reshape, Relu, MaxPool...)
    lies within the union of its input ranges; (2) the input range of an operator that only moves values lies within its
    output range. Both apply across any number of such nodes.

    Returns:
        name -> range, without tensors whose range does not follow; and ``NAME from OTHER`` for each derived range.
    """
    values = {value.name: value for node in model.graph for value in (*node.inputs, *node.outputs) if value is not None}
    ranges, derivations = {}, []
    for name in names:
        if name in known:
            ranges[name] = known[name]
        elif name in values:
            sources = _sources(values[name], known, set())
            if sources:
                parts = [known[source] for source in sources]
                ranges[name] = Range(min(part.low for part in parts), max(part.high for part in parts))
                derivations.append(f"{name} from {', '.join(sources)}")
    return ranges, derivations


def _sources(value: ir.Value, known: Mapping[str, Range], visited: set[ir.Value]) -> list[str]:
    """Return the names in ``known`` whose ranges together contain ``value``; empty if there are none."""
    name = name_of(value)
    if name in known:
        return [name]
    visited.add(value)
    node = value.producer()
    if node is not None and _is_within_input(node):
        read = node.inputs if is_op(node, "Concat") else node.inputs[:1]
        parts = [_sources(part, known, visited) for part in read if part is not None and part not in visited]
        if parts and all(parts):
            return list(dict.fromkeys(source for part in parts for source in part))
    for reader, index in value.uses():
        moves = is_op(reader, WITHIN_OUTPUT) and (index == 0 or is_op(reader, "Concat"))
        if moves and reader.outputs[0] not in visited:
            written = _sources(reader.outputs[0], known, visited)
            if written:
                return written
    return []


def _is_within_input(node: ir.Node) -> bool:
    # A Clip whose interval excludes zero can raise values beyond its input range; it has no limits here.
    bounded = not is_op(node, "Clip") or known_limits([node], set(node.outputs))
    return is_op(node, WITHIN_INPUT) and bool(bounded)


def encodings_of_ranges(
    source: ir.Model, prepared: Prepared, known: Mapping[str, Range], place: str
) -> tuple[dict[str, Encoding], tuple[str, ...]]:
    """Compute the encodings of ``prepared`` from ranges of the float model ``source``.

    Args:
        known: ranges by tensor name.
        place: where the ranges come from, for messages.

    Returns:
        the encodings, weights included, and notes on ranges that were derived or not used.

    Raises:
        ModelError: a quantized tensor has no range, and none follows from its neighbors.
    """
    model, placement = prepared.model, prepared.placement
    types = placement.activations
    model_names = set(float_tensors(source))
    unknown = [name for name in known if name not in model_names]
    if known and len(unknown) == len(known):
        raise ModelError(f"{place}: none of its {len(known)} tensors is in the model; it belongs to another model")
    ranges, derivations = derive_ranges(model, known, types)
    unified = unify(ranges, placement)
    missing = [name for name in types if name not in unified]
    if missing:
        raise ModelError(
            f"{place}: no range for {len(missing)} of the {len(types)} tensors that {prepared.target.name} quantizes "
            f"({_abbreviated(missing)}), and none follows from their neighbors; calibrate the model: dfq-deploy "
            "calibrate"
        )
    encodings = {name: Encoding.of_range(unified[name], qtype) for name, qtype in types.items()}
    encodings |= encodings_of_weights(model, placement, best_bounds, activations=encodings)
    notes = []
    if derivations:
        notes.append(
            f"{place} has no range for {len(derivations)} quantized tensor(s); they are derived: "
            f"{_abbreviated(derivations)}"
        )
    if unknown:
        notes.append(
            f"{place}: {len(unknown)} of its {len(known)} tensors are not in the model ({_abbreviated(unknown)}); was "
            "it calibrated on this file?"
        )
    return encodings, tuple(notes)


def _abbreviated(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{'; '.join(names[:LISTED])}{more}"
