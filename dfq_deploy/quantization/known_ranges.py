"""Ranges that are known: of a Softmax behind a mask, of kernels with fixed scales, of earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.graph.traversal import before, walk
from dfq_deploy.targets.target import Target

__all__ = ["RangeMemory", "fixed_ranges", "softmax_ranges"]

CARRYING_OPS = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout"})
"""What may stand behind a Softmax without changing a value."""


def softmax_ranges(model: ir.Model) -> dict[str, Range]:
    """0 to 1 for each Softmax that depends on a mask, and for what it becomes without a change of its values.

    A mask can leave one token, which then gets all of the attention, however rare that is among the samples.
    """
    masks = {value for value in input_values(model) if value.dtype == ir.DataType.BOOL or "mask" in name_of(value)}
    masked = [node for node in model.graph if is_op(node, "Softmax") and masks and _depends_on(node, masks)]
    return {name_of(value): Range(0.0, 1.0) for node in masked for value in walk(node.outputs, _carried)}


def fixed_ranges(model: ir.Model, target: Target, types: Mapping[str, QuantType]) -> dict[str, Range]:
    """The ranges of the tensors among ``types`` that the integer kernels of ``target`` write with a fixed scale.

    The bounds are 2^bits steps apart, so that the largest integer is one step below the upper bound.
    """
    ranges = {}
    for node in model.graph:
        name = name_of(node.outputs[0]) if node.outputs else ""
        if not is_op(node, target.fixed_outputs) or name not in types:
            continue
        low, high = target.fixed_outputs[node.op_type]
        kind = types[name]
        if kind.symmetric:
            largest = max(-low, high) * (1 - 2.0 ** (1 - kind.bits))
            ranges[name] = Range(-largest, largest)
        else:
            ranges[name] = Range(low, high - (high - low) / 2**kind.bits)
    return ranges


def _carried(value: ir.Value) -> list[ir.Value]:
    return [use.node.outputs[0] for use in value.uses() if use.idx == 0 and is_op(use.node, CARRYING_OPS)]


def _depends_on(node: ir.Node, masks: set[ir.Value]) -> bool:
    return any(not masks.isdisjoint(step.inputs) for step in (node, *before(node)))


@dataclass(eq=False)
class RangeMemory:
    """What was measured on the same samples and weights, and is not measured again.

    Args:
        ranges: by tensor name and type.
        notes: on how they were measured, which hold for all that use them.
    """

    ranges: dict[tuple[str, QuantType], Range] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def known(self, types: Mapping[str, QuantType]) -> dict[str, Range]:
        """The ranges of tensors of these types, by name, as far as they were measured."""
        return {name: self.ranges[name, qtype] for name, qtype in types.items() if (name, qtype) in self.ranges}

    def keep(self, ranges: Mapping[str, Range], types: Mapping[str, QuantType], notes: list[str]) -> None:
        """Add what was measured now, and put the notes on what was measured before among ``notes``, once."""
        self.ranges.update({(name, types[name]): span for name, span in ranges.items()})
        self.notes = list(dict.fromkeys([*self.notes, *notes]))
        notes[:] = self.notes
