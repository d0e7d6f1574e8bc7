"""Control flow: nested graphs run as programs of their own; Dropout, which inference leaves out."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.program import Program, moved
from dfq_deploy.twin.registry import Operator, register
from dfq_deploy.validation.bounds import bounds

__all__ = ["call", "captures", "device_of"]

TWICE = 2
"""The outputs of a Loop's turns are there twice while they are stacked."""

OBJECT = 1024
"""Bytes that a tensor takes beside its numbers, about: of small ones there may be many."""


def call(program: Program, fed: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Run a nested graph; its inputs come first, the captured tensors after them."""
    constants = ((name, tensor.to(device)) for name, tensor in program.constants.items() if name in program.used)
    results = program.run([*constants, *zip(program.inputs, fed, strict=True)], device)
    return tuple(moved(results[name], device) for name in program.outputs)


def captures(program: Program, explicit: int, node: Node, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors that a nested graph captures, out of all that its node captures."""
    given = dict(zip(node.inputs[node.captured :], tensors, strict=True))
    return tuple(given[name] for name in program.inputs[explicit:])


def device_of(tensors: tuple[Tensor | None, ...]) -> torch.device:
    devices = [tensor.device for tensor in tensors if isinstance(tensor, Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


@register("If", arguments=(0,))
def if_(node: Node) -> Operator:
    """One of two graphs, chosen by a condition at run time."""
    branches = node.program("else_branch"), node.program("then_branch")

    def run(condition: Tensor, *captured: Tensor) -> tuple[Tensor, ...]:
        program = branches[bool(condition.item())]
        return call(program, captures(program, 0, node, captured), device_of(captured))

    return run


@register("Loop", arguments=(0, 1))
def loop(node: Node) -> Operator:
    """A graph repeated while its condition holds: last states, then the outputs of each turn stacked.

    A file can ask for any number of turns: they end with the time and the memory in :class:`.Bounds`.
    """
    program, count = node.program("body"), node.captured

    def run(*inputs: Tensor | None) -> tuple[Tensor, ...]:
        most, condition = inputs[:2]
        states = tuple(tensor for tensor in inputs[2:count] if tensor is not None)
        captured = captures(program, 2 + len(states), node, tuple(t for t in inputs[count:] if t is not None))
        device = device_of(inputs)
        going = torch.tensor(True) if condition is None else condition
        stacked: list[list[Tensor]] = [[] for _ in program.outputs[1 + len(states) :]]
        turn, size, limits, begun = 0, 0, bounds(), time.monotonic()
        while bool(going.item()) and (most is None or turn < int(most.item())):
            number = torch.tensor(turn, device=device)
            going, *results = call(program, (number, going.to(device), *states, *captured), device)
            states = tuple(results[: len(states)])
            for column, tensor in zip(stacked, results[len(states) :], strict=True):
                column.append(tensor)
                size += TWICE * tensor.nbytes + OBJECT
            turn += 1
            if size > limits.memory or time.monotonic() - begun > limits.seconds:
                raise node.refuse(
                    f"it takes more than {limits.memory:,} bytes or {limits.seconds:g} s ({turn:,} turns so far); "
                    "raise --max-memory or --max-seconds if that is meant"
                )
        return *states, *(torch.stack(column) if column else torch.zeros(0) for column in stacked)

    return run


@register("Scan", since=9)
def scan(node: Node) -> Operator:
    """A graph over the slices of sequences: last states, then the outputs of each turn joined."""
    program, count = node.program("body"), node.captured
    slices = node.integer("num_scan_inputs")
    carried = count - slices
    input_axes = node.integers("scan_input_axes") or (0,) * slices
    input_reversed = node.integers("scan_input_directions") or (0,) * slices
    produced = len(program.outputs) - carried
    output_axes = node.integers("scan_output_axes") or (0,) * produced
    output_reversed = node.integers("scan_output_directions") or (0,) * produced

    def turns(sequences: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        for turn in range(sequences[0].shape[input_axes[0]]):
            yield tuple(
                sequence.select(axis, sequence.shape[axis] - 1 - turn if backwards else turn)
                for sequence, axis, backwards in zip(sequences, input_axes, input_reversed, strict=True)
            )

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        states, device = inputs[:carried], device_of(inputs)
        captured = captures(program, count, node, inputs[count:])
        columns: list[list[Tensor]] = [[] for _ in range(produced)]
        for parts in turns(inputs[carried:count]):
            results = call(program, (*states, *parts, *captured), device)
            states = results[:carried]
            for column, tensor in zip(columns, results[carried:], strict=True):
                column.append(tensor)
        ordered = [column[::-1] if back else column for column, back in zip(columns, output_reversed, strict=True)]
        return *states, *(torch.stack(column, axis) for column, axis in zip(ordered, output_axes, strict=True))

    return run


@register("Dropout", arguments=(1, 2))
def dropout(node: Node) -> Operator:
    """Nothing is dropped in inference; training mode is refused."""

    def run(x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if training is not None and bool(training.item()) and (ratio is None or float(ratio.item()) > 0):
            raise node.refuse("it drops at random (training mode); export the model for inference")
        return x, torch.ones_like(x, dtype=torch.bool)

    return run
