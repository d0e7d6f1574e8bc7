"""Override what is quantized, node by node and tensor by tensor."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.graph.traversal import walk
from dfq_deploy.quantization.placement.limits import UNBOUNDED
from dfq_deploy.quantization.placement.place import KEPT, Placement
from dfq_deploy.targets.target import Target

__all__ = ["NO_OVERRIDES", "Kind", "Override", "Overrides"]

Kind: TypeAlias = Literal["tensor", "node"]

SUGGESTED = 3
"""Close matches that a message names."""


@dataclass(frozen=True)
class Override:
    """One entry of an overrides file (docs/overrides.md).

    Args:
        kind: what ``match`` names. A node's ``type`` and ``symmetric`` are those of the activations that it reads, its
            ``bits`` are those of its weight.
        match: a name, or a pattern with ``*`` and ``?``; for nodes also an operator.
        place: where the entry stands, for messages.
        type: ``u8``, ``s8`` or ``u16``; None leaves the target's.
        bits: 2 to 8, or 16 for activations; None leaves them.
        symmetric: whether the zero point is fixed; None leaves it.
        range: what an activation is quantized for, instead of what is measured; None measures it.
        factor: what its range is multiplied by. Unlike a range it holds for other samples too.
        is_float: keep the node, or what reads the tensor, in float.
        optional: of a tensor by name: nothing to do where it is not quantized.
    """

    kind: Kind
    match: str
    place: str = "overrides"
    type: str | None = None
    bits: int | None = None
    symmetric: bool | None = None
    range: Range | None = None
    factor: float | None = None
    is_float: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Overrides:
    """What is quantized otherwise than the target's rules have it.

    Args:
        keep_float: nodes that stay float: names, operators, or patterns with ``*`` and ``?``.
        exclude: a regular expression; nodes stay float whose name it finds something in.
        entries: of an overrides file; of several that name the same, the last one counts.
        reasons: names of nodes in ``keep_float`` with the reason, where it is another than that it was asked for.
    """

    keep_float: tuple[str, ...] = ()
    exclude: str | None = None
    entries: tuple[Override, ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.exclude or "")
        except re.error as problem:
            raise OptionError(
                f"exclude: '{self.exclude}' is no regular expression ({problem}); keep_float takes plain names"
            ) from None

    def __bool__(self) -> bool:
        """False where nothing is overridden."""
        return self != NO_OVERRIDES

    def kept(self, source: ir.Model, model: ir.Model, target: Target) -> frozenset[str]:
        """Names of the nodes of ``model`` that stay float.

        Args:
            source: the model as it was given, whose nodes are named.
            model: the same prepared for ``target``: a node that was rewritten stands for what it has become.

        Raises:
            OptionError: a name, operator or pattern fits nothing, or the target runs nothing in float.
        """
        asked = self._asked(source, model)
        if asked and (target.style == "everything" or not target.floats):
            raise OptionError(
                f"keep_float: {target.runtime} runs integers only, so '{min(asked)}' cannot stay float; give it 16 "
                "bits instead: bits='w8a16', or type = 'u16' in an overrides file"
            )
        return frozenset(asked | _become(asked, source, model))

    def _asked(self, source: ir.Model, model: ir.Model) -> set[str]:
        operators = _operators(model) | _operators(source)
        found: set[str] = set()
        for match in self.keep_float:
            found |= _nodes(match, operators, "keep_float")
        if self.exclude is not None:
            fitting = {name for name in operators if re.search(self.exclude, name)}
            if not fitting:
                raise OptionError(f"exclude: '{self.exclude}' fits no node{_close(self.exclude, operators)}")
            found |= fitting
        for entry in (entry for entry in self.entries if entry.is_float):
            if entry.kind == "node":
                found |= _nodes(entry.match, operators, entry.place)
            else:
                found |= _readers(_named(entry.match, _tensors(model), entry.place), model)
        return found

    def explained(self, placement: Placement) -> Placement:
        """``placement`` with the reasons why nodes were kept in float."""
        reasons = dict(self.reasons)
        rows = [
            (name, operator, reasons.get(name, reason) if reason == KEPT else reason)
            for name, operator, reason in placement.left_float
        ]
        return replace(placement, left_float=tuple(rows))

    def typed(self, placement: Placement, model: ir.Model, target: Target) -> Placement:
        """``placement`` with the types that the entries ask for; a group of one encoding has one type.

        Raises:
            OptionError: a name fits nothing that is quantized, or the target does not take a type.
        """
        activations, weights = dict(placement.activations), dict(placement.weights)
        for entry in self.entries:
            node = entry.kind == "node"
            read, held = self._tensors(entry, placement, model)
            for name in read:
                wanted = _retyped(replace(entry, bits=None) if node else entry, activations[name], target, 0)
                groups = [group & activations.keys() for group in placement.shared if name in group]
                activations.update(dict.fromkeys([name, *(member for group in groups for member in group)], wanted))
            for name in held:
                qtype, axis = weights[name]
                own = replace(entry, type=None, symmetric=None) if node else entry
                weights[name] = (_retyped(own, qtype, target, 1), axis)
        return replace(placement, activations=activations, weights=weights)

    def _tensors(self, entry: Override, placement: Placement, model: ir.Model) -> tuple[list[str], list[str]]:
        """Names of the activations and of the weights that an entry changes."""
        if entry.is_float or (entry.optional and entry.match not in placement.activations):
            return [], []
        if entry.kind == "tensor":
            names = _named(entry.match, _tensors(model), entry.place)
            read = [name for name in names if name in placement.activations]
            held = [name for name in names if name in placement.weights]
            if not read and not held:
                raise OptionError(
                    f"{entry.place}: '{entry.match}' is not quantized; quantized are, e.g., "
                    f"{', '.join(list(placement.activations)[:SUGGESTED])}"
                )
            if held and entry.range is not None:
                raise OptionError(f"{entry.place}: '{held[0]}' is a weight, whose range is its own; leave range out")
            return read, held
        nodes = _nodes(entry.match, _operators(model), entry.place)
        values = [name_of(value) for node in model.graph if node.name in nodes for value in node.inputs]
        types = (entry.type, entry.symmetric) != (None, None)
        read = [name for name in values if name in placement.activations and types]
        return read, [name for name in values if name in placement.weights and entry.bits is not None]

    def ranged(self, ranges: Mapping[str, Range], placement: Placement) -> dict[str, Range]:
        """``ranges`` with those that the entries give, kept within the limits; a group of one encoding has one."""
        found = dict(ranges)
        for entry in self.entries:
            if entry.range is None and entry.factor is None:
                continue
            for name in [name for name in found if name == entry.match or fnmatchcase(name, entry.match)]:
                low, high = placement.limits.get(name, UNBOUNDED)
                given = entry.range or found[name]
                factor = 1.0 if entry.factor is None else entry.factor
                span = Range(min(max(factor * given.low, low), high), max(min(factor * given.high, high), low))
                groups = [group for group in placement.shared if name in group]
                found.update(dict.fromkeys([name, *(member for group in groups for member in group)], span))
        return found


NO_OVERRIDES = Overrides()


def _retyped(entry: Override, own: QuantType, target: Target, side: int) -> QuantType:
    """The type that an entry asks for instead of ``own``.

    Args:
        side: 0 for an activation, 1 for a weight: what of the target's pairs of types counts.
    """
    if own.floating:
        if (entry.type, entry.bits) != (None, None):
            raise OptionError(
                f"{entry.place}: '{entry.match}' is FP8, like every other tensor; leave type and bits out"
            )
        return own
    taken = sorted({pair[side] for pair in target.pairs if pair[side] not in ("s4", "e4m3")})
    signed, bits = (own.signed, own.bits) if entry.type is None else (entry.type[0] == "s", int(entry.type[1:]))
    bits = bits if entry.bits is None else entry.bits
    stored = f"{'s' if signed else 'u'}{16 if bits > 8 else 8}"
    if stored not in taken and (stored, bits) != (f"{'s' if own.signed else 'u'}8", own.bits):
        kind = "weights" if side else "activations"
        raise OptionError(
            f"{entry.place}: '{entry.match}' cannot be {stored}: {target.name} takes {kind} of {', '.join(taken)}"
        )
    symmetric = own.symmetric if entry.symmetric is None else entry.symmetric
    if own.symmetric and not symmetric:
        raise OptionError(
            f"{entry.place}: '{entry.match}' cannot be asymmetric: {target.name} takes symmetric types there; leave "
            "symmetric out"
        )
    return QuantType(bits, signed, symmetric)


def _operators(model: ir.Model) -> dict[str, str]:
    """Name of each node -> its operator; of bodies of If, Loop and Scan too."""
    return {str(node.name): node.op_type for node in model.graph.all_nodes()}


def _tensors(model: ir.Model) -> list[str]:
    computed = [value for node in model.graph for value in node.outputs]
    values = [*model.graph.inputs, *computed, *model.graph.initializers.values()]
    return [name for name in map(name_of, values) if name]


def _nodes(match: str, operators: Mapping[str, str], place: str) -> set[str]:
    """Names of the nodes that a name, an operator or a pattern fits."""
    if match in operators:
        return {match}
    found = {name for name, operator in operators.items() if operator == match or fnmatchcase(name, match)}
    if not found:
        raise OptionError(f"{place}: no node '{match}'{_close(match, [*operators, *set(operators.values())])}")
    return found


def _named(match: str, names: Sequence[str], place: str) -> list[str]:
    found = [match] if match in names else [name for name in names if fnmatchcase(name, match)]
    if not found:
        raise OptionError(f"{place}: no tensor '{match}'{_close(match, names)}")
    return found


def _close(match: str, names: Iterable[str]) -> str:
    """Names like ``match``, for the end of a message."""
    known = sorted(set(names))
    holding = sorted((name for name in known if match.lower() in name.lower()), key=len)
    close = [*holding, *get_close_matches(match, known, SUGGESTED, 0.6)][:SUGGESTED]
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are, e.g., {', '.join(known[:SUGGESTED])}"


def _readers(tensors: Iterable[str], model: ir.Model) -> set[str]:
    """Names of the nodes that read one of ``tensors``; what writes it where none does."""
    wanted = set(tensors)
    found = {str(node.name) for node in model.graph if wanted & {name_of(value) for value in node.inputs}}
    written = {
        str(node.name)
        for node in model.graph
        for value in node.outputs
        if name_of(value) in wanted and not value.uses()
    }
    return found | written


def _become(asked: set[str], source: ir.Model, model: ir.Model) -> set[str]:
    """Names of the nodes of ``model`` that compute what the ``asked`` nodes of ``source`` did."""
    given = {name_of(value) for node in source.graph for value in node.inputs if constant_of(value) is None}
    ends = {name_of(value) for node in source.graph if node.name in asked for value in node.outputs}
    written = [node for node in model.graph if ends & {name_of(value) for value in node.outputs}]

    def inside(node: ir.Node) -> list[ir.Node]:
        values = [value for value in node.inputs if value is not None and name_of(value) not in given | ends]
        return [producer for value in values if (producer := value.producer()) is not None]

    return {str(node.name) for node in walk(written, inside)}
