"""A graph as a list of steps, and the loop that runs it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dfq_deploy.errors import DfqError, ModelError, first_line, is_out_of_memory
from dfq_deploy.twin.registry import Operator

__all__ = ["CannotRun", "GroupHook", "Hook", "Program", "Step", "moved"]

Hook: TypeAlias = Callable[[Tensor], Tensor]

GroupHook: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Takes one tensor of several runs, and returns what replaces it in each."""

ABSENT = 0
"""The slot of absent inputs, which is always None."""
IGNORED = 1
"""The slot of unnamed outputs."""


class CannotRun(ModelError, RuntimeError):  # noqa: N818 - says what it is
    """torch cannot run a node on what reaches it; ONNX Runtime may, or may have no need to."""


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        version: opset version of ``domain`` in the model.
        inputs: tensor names, "" for an absent optional input.
        outputs: tensor names, "" for an absent optional output.
        operator: takes tensors, returns a tensor or a tuple of tensors.
        host: positions of the inputs that are read from the CPU.
        on_host: True if the outputs are on the CPU.
        strides: the attribute of that name; empty if the node has none.
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
    label: str
    operator: Operator
    inputs: tuple[int, ...]
    moved: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]


class Program:
    """Steps in topological order with all names resolved to slots.

    Args:
        inputs: names of the input tensors.
        outputs: names of the output tensors.
        steps: in topological order.
        constants: initializers and folded constants, on the CPU.
        host_inputs: names of the inputs that are on the CPU (captured shape arithmetic).
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
        """A copy of the program with other steps."""
        return Program(self.inputs, self.outputs, steps, self.constants, self.host_inputs)

    def __deepcopy__(self, memo: dict[int, object]) -> "Program":
        """Copy the steps, whose operators may be modules; constants are shared to save memory."""
        return self.with_steps(deepcopy(self.steps, memo))

    def _host_slot(self, name: str) -> int:
        """The slot of a copy of a constant that stays on the CPU after ``.to(device)``."""
        if name not in self._copies:
            self._copies[name] = len(self._template)
            self._template.append(self.constants[name])
        return self._copies[name]

    def _compile(self) -> list[_Instruction]:
        produced_on_host = {name for step in self.steps if step.on_host for name in step.outputs} | self.host_inputs
        addresses = [self._addresses(step, produced_on_host) for step in self.steps]
        self.used = frozenset(
            name
            for step, (slots, _) in zip(self.steps, addresses, strict=True)
            for name, slot in zip(step.inputs, slots, strict=True)
            if slot == self.slots.get(name)
        )
        last_use = {slot: index for index, (slots, _) in enumerate(addresses) for slot in slots}
        permanent = {self.slots[name] for name in self.outputs} | set(self._copies.values()) | {ABSENT, IGNORED}
        instructions = []
        for index, (step, (slots, moved)) in enumerate(zip(self.steps, addresses, strict=True)):
            outputs = tuple(self.slots[name] if name else IGNORED for name in step.outputs)
            finished = {slot for slot in slots if last_use[slot] == index}
            finished |= {slot for slot in outputs if slot not in last_use}
            dead = tuple(sorted(finished - permanent)) + ((IGNORED,) if IGNORED in outputs else ())
            label = f"{step.op_type} '{step.name or next(iter(step.outputs), '')}'"
            instructions.append(_Instruction(label, step.operator, slots, moved, outputs, dead))
        return instructions

    def _addresses(self, step: Step, produced_on_host: Collection[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The slots of the inputs, and the positions of those that must be moved from the CPU to the device."""
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
            feeds: the inputs and the constants on their device, by name.
            device: the device to which tensors computed on the CPU are moved if a step needs them there.
            keep: names of intermediate tensors to return too.
            hooks: functions by tensor name, applied to a tensor as soon as it is fed or computed.

        Raises:
            CannotRun: torch cannot run a step.
        """
        values = self._template.copy()
        for name, tensor in feeds:
            values[self.slots[name]] = tensor
        hooked = {self.slots[name]: hook for name, hook in hooks.items()} if hooks else {}
        _apply(hooked, values, hooked)
        kept = frozenset(self.slots[name] for name in keep)
        for step in self._instructions:
            _execute(step, values, device)
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

    def run_in_step(
        self,
        feeds: Sequence[Iterable[tuple[str, Tensor]]],
        device: torch.device,
        hooks: Mapping[str, GroupHook],
    ) -> None:
        """Run all steps on several feeds, each step on all of them before the next one.

        Args:
            feeds: the inputs and the constants of each run, as :meth:`run` takes them.
            device: as for :meth:`run`.
            hooks: functions by tensor name; each is given a tensor of all runs as soon as it is fed or computed. A
                constant that the runs share is given once.
        """
        rows = [self._template.copy() for _ in feeds]
        for values, fed in zip(rows, feeds, strict=True):
            for name, tensor in fed:
                values[self.slots[name]] = tensor
        hooked = {self.slots[name]: hook for name, hook in hooks.items()}
        _apply_to_all(hooked, rows, hooked)
        for step in self._instructions:
            for values in rows:
                _execute(step, values, device)
            _apply_to_all(hooked, rows, step.outputs)
            for values in rows:
                for slot in step.dead:
                    values[slot] = None


def _execute(step: _Instruction, values: list[Tensor | None], device: torch.device) -> None:
    arguments = [values[slot] for slot in step.inputs]
    for position in step.moved:
        argument = arguments[position]
        arguments[position] = None if argument is None else moved(argument, device)
    try:
        result = step.operator(*arguments)
    except DfqError:  # of a node within the node
        raise
    except (RuntimeError, IndexError, ValueError) as problem:
        if is_out_of_memory(problem):
            raise
        raise CannotRun(
            f"{step.label}: torch cannot run it ({first_line(problem)[:150]}); --synth procedural and --refine none do "
            "without torch"
        ) from problem
    if isinstance(result, tuple):
        for slot, part in zip(step.outputs, result, strict=False):
            values[slot] = part
    else:
        values[step.outputs[0]] = result


def moved(value: Tensor | list[Tensor], device: torch.device) -> Tensor:
    """Move a tensor, or the tensors of a sequence, to a device."""
    if isinstance(value, list):
        return [tensor.to(device) for tensor in value]  # type: ignore[return-value]  # a sequence
    return value.to(device)


def _apply(hooked: Mapping[int, Hook], values: list[Tensor | None], slots: Iterable[int]) -> None:
    for slot in slots:
        value = values[slot]
        if slot in hooked and value is not None:
            values[slot] = hooked[slot](value)


def _apply_to_all(hooked: Mapping[int, GroupHook], rows: Sequence[list[Tensor | None]], slots: Iterable[int]) -> None:
    for slot in slots:
        tensors = [values[slot] for values in rows]
        given = [tensor for tensor in tensors if tensor is not None]
        if slot not in hooked or len(given) < len(rows):
            continue
        shared = all(tensor is given[0] for tensor in given)
        replaced = hooked[slot](given[:1] if shared else given)
        for values, tensor in zip(rows, [*replaced] * len(rows) if shared else replaced, strict=True):
            values[slot] = tensor
