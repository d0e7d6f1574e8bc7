"""A graph as a list of steps, and the loop that runs it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dfq_deploy.twin.registry import Operator

__all__ = ["Hook", "Program", "Step", "moved"]

Hook: TypeAlias = Callable[[Tensor], Tensor]

ABSENT = 0
"""The slot that reads as None."""
IGNORED = 1
"""The slot that takes outputs nobody named."""


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        version: the model's opset of ``domain``.
        inputs: tensor names, "" where an optional input is absent.
        outputs: tensor names, "" where an optional output is absent.
        operator: tensors in, tensor or tuple out.
        host: the positions of inputs that are read from the CPU.
        on_host: the outputs live on the CPU.
        strides: the attribute of that name; empty where the node has none.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operator: Operator
    host: frozenset[int] = frozenset()
    on_host: bool = False
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Instruction:
    operator: Operator
    inputs: tuple[int, ...]
    moved: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]


class Program:
    """Steps in topological order with all names resolved to slots.

    Args:
        inputs: names of the fed tensors.
        outputs: names of the results.
        steps: in topological order.
        constants: initializers and folded constants, on the CPU.
        host_inputs: fed tensors that live on the CPU (captured shape arithmetic).
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        steps: tuple[Step, ...],
        constants: Mapping[str, Tensor],
        host_inputs: Collection[str] = (),
    ) -> None:
        self.inputs, self.outputs, self.steps = inputs, outputs, steps
        self.constants = dict(constants)
        self.host_inputs = frozenset(host_inputs)
        self.slots: dict[str, int] = {}
        self._template: list[Tensor | None] = [None, None]
        for name in (*inputs, *self.constants, *(name for step in steps for name in step.outputs if name)):
            if name not in self.slots:
                self.slots[name] = len(self._template)
                self._template.append(None)
        self._copies: dict[str, int] = {}
        self.used: frozenset[str] = frozenset()
        self._instructions: list[_Instruction] = self._compile()

    def with_steps(self, steps: tuple[Step, ...]) -> "Program":
        """The same program with other steps."""
        return Program(self.inputs, self.outputs, steps, self.constants, self.host_inputs)

    def __deepcopy__(self, memo: dict[int, object]) -> "Program":
        """Steps are copied, for the modules among their operators; constants are shared, for their size."""
        return self.with_steps(deepcopy(self.steps, memo))

    def _host_slot(self, name: str) -> int:
        """The slot of a constant's copy on the CPU, which no ``.to(device)`` moves."""
        if name not in self._copies:
            self._copies[name] = len(self._template)
            self._template.append(self.constants[name])
        return self._copies[name]

    def _compile(self) -> list[_Instruction]:
        produced_on_host = {name for step in self.steps if step.on_host for name in step.outputs} | self.host_inputs
        rows = [self._addresses(step, produced_on_host) for step in self.steps]
        self.used = frozenset(
            name
            for step, (slots, _) in zip(self.steps, rows, strict=True)
            for name, slot in zip(step.inputs, slots, strict=True)
            if slot == self.slots.get(name)
        )
        last = {slot: index for index, (slots, _) in enumerate(rows) for slot in slots}
        saved = {self.slots[name] for name in self.outputs} | set(self._copies.values()) | {ABSENT, IGNORED}
        instructions = []
        for index, (step, (slots, moved)) in enumerate(zip(self.steps, rows, strict=True)):
            outputs = tuple(self.slots[name] if name else IGNORED for name in step.outputs)
            ends = {slot for slot in slots if last[slot] == index} | {slot for slot in outputs if slot not in last}
            dead = tuple(sorted(ends - saved)) + ((IGNORED,) if IGNORED in outputs else ())
            instructions.append(_Instruction(step.operator, slots, moved, outputs, dead))
        return instructions

    def _addresses(self, step: Step, produced_on_host: Collection[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        slots, moved = [], []
        for position, name in enumerate(step.inputs):
            on_host = step.on_host or position in step.host
            if not name:
                slots.append(ABSENT)
            elif name in self.constants and on_host:
                slots.append(self._host_slot(name))
            else:
                slots.append(self.slots[name])
                if name in produced_on_host and not on_host:
                    moved.append(position)
        return tuple(slots), tuple(moved)

    def run(
        self,
        feeds: Iterable[tuple[str, Tensor]],
        device: torch.device,
        keep: Collection[str] = (),
        hooks: Mapping[str, Hook] | None = None,
    ) -> dict[str, Tensor]:
        """Run all steps.

        Args:
            feeds: the fed tensors and the constants on their device, by name.
            device: where tensors that were computed on the CPU go when a step needs them beside others.
            keep: names of tensors to return beside the outputs.
            hooks: what to do to a tensor right after it is fed or produced.
        """
        values = self._template.copy()
        for name, tensor in feeds:
            values[self.slots[name]] = tensor
        hooked = {self.slots[name]: hook for name, hook in hooks.items()} if hooks else {}
        _apply(hooked, values, hooked)
        kept = frozenset(self.slots[name] for name in keep)
        for step in self._instructions:
            arguments = [values[slot] for slot in step.inputs]
            for position in step.moved:
                argument = arguments[position]
                arguments[position] = None if argument is None else moved(argument, device)
            result = step.operator(*arguments)
            if isinstance(result, tuple):
                for slot, part in zip(step.outputs, result, strict=False):
                    values[slot] = part
            else:
                values[step.outputs[0]] = result
            if hooked:
                _apply(hooked, values, step.outputs)
            for slot in step.dead:
                if slot not in kept:
                    values[slot] = None
        results = {}
        for name in (*self.outputs, *keep):
            value = values[self.slots[name]]
            results[name] = self.constants[name] if value is None else value
        return results


def moved(value: Tensor | list[Tensor], device: torch.device) -> Tensor:
    """A tensor, or the tensors of a sequence, on a device."""
    if isinstance(value, list):
        return [tensor.to(device) for tensor in value]  # type: ignore[return-value]  # a sequence
    return value.to(device)


def _apply(hooked: Mapping[int, Hook], values: list[Tensor | None], slots: Iterable[int]) -> None:
    for slot in slots:
        value = values[slot]
        if slot in hooked and value is not None:
            values[slot] = hooked[slot](value)
