"""States and caches of streaming models: what the model returns is fed back to it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import has_batch_axis, input_values, model_inputs, other_inputs
from dfq_deploy.graph.main_input import uses_of, words_of
from dfq_deploy.graph.query import name_of
from dfq_deploy.runtime.plugin_nodes import plugin_nodes
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["STREAM", "fed_back", "state_outputs", "stream"]

STREAM = 16
"""Samples that follow each other; the state of the first is zero."""

STATES = frozenset({"cache", "caches", "hidden", "memory", "past", "state", "states"})
"""Words in the names of states."""


def state_outputs(model: ir.Model, stated: Collection[str] = ()) -> dict[str, int]:
    """Name of each input that is a state -> index of the output that is its next value.

    A state is a float input beside the main one that is returned with its shape, by its use
    (:class:`dfq_deploy.graph.main_input.InputUse`) or its name. Of several outputs that fit, the one with the most
    letters of its name in common from the start is taken, else the first.

    Args:
        stated: names of inputs whose values the caller states.
    """
    ports, values = model_inputs(model), input_values(model)
    uses = uses_of(model.graph, values)
    shapes = {name_of(value): value for value in values}
    free = dict(enumerate(model.graph.outputs))
    found = {}
    for port in other_inputs(ports) if len(ports) > 1 else ():
        carried = uses[port.name].carried or not words_of(port.name).isdisjoint(STATES)
        if not port.is_float or not carried or port.name in stated:
            continue
        fitting = [index for index, output in free.items() if _fits(shapes[port.name], output)]
        if fitting:
            found[port.name] = max(fitting, key=lambda index: _alike(port.name, name_of(free[index])))
            del free[found[port.name]]
    return found


def _fits(state: ir.Value, output: ir.Value) -> bool:
    if state.dtype != output.dtype or state.shape is None or output.shape is None:
        return state.dtype == output.dtype and output.shape is None
    pairs = zip(state.shape, output.shape, strict=False)
    return len(state.shape) == len(output.shape) and all(
        own == other or not isinstance(own, int) or not isinstance(other, int) for own, other in pairs
    )


def _alike(name: str, other: str) -> int:
    """How many letters two names have in common from the start."""
    return next((index for index, pair in enumerate(zip(name, other, strict=False)) if len(set(pair)) > 1), len(name))


def fed_back(model: ir.Model, samples: Samples, stated: Collection[str] = ()) -> Samples:
    """``samples`` with the states that the model has when it has seen the samples before.

    Each run of :data:`STREAM` samples is one stream. What a normal distribution would give a state is nothing that the
    model computes, and ranges would fit neither.

    Args:
        samples: with a value for every input; those of states give their shapes.

    Raises:
        ModelError: ONNX Runtime fails on a sample.
    """
    outputs = state_outputs(model, stated)
    if not outputs or plugin_nodes(model):
        return samples
    states: dict[str, NDArray[Any]] = {name: np.zeros_like(samples.extra[name]) for name in outputs}
    runner = Runner(model, name="the float model", quiet_threads=True)
    for index, (given, _) in enumerate(stream(runner, samples, outputs)):
        for name, rows in given.items():
            states[name][index] = rows[0]
    kept = [note for note in samples.notes if not any(note.startswith(f"input '{name}' ") for name in outputs)]
    notes = [
        f"input '{name}' is what the model returned for the sample before, and zero for every {STREAM}th (a state)"
        for name in outputs
    ]
    return replace(samples, extra={**samples.extra, **states}, notes=(*kept, *notes))


def stream(
    runner: Runner, samples: Samples, outputs: Mapping[str, int]
) -> Iterator[tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]]:
    """Run ``samples`` one after another, each with the states that the model has returned for the one before.

    Args:
        samples: the values of their states give the shapes.
        outputs: name of each state -> index of the output that is its next value, of :func:`state_outputs`.

    Yields:
        the states that a sample was run with, (1, ...) each, and the outputs; the first of :data:`STREAM` samples has
        states of zero.

    Raises:
        ModelError: ONNX Runtime fails on a sample.
    """
    states: dict[str, NDArray[Any]] = {}
    for index in range(len(samples)):
        one = replace(samples.part(slice(index, index + 1)), labels=None)
        if index % STREAM == 0:
            states = {name: np.zeros_like(one.extra[name]) for name in outputs}
        results = runner.feed(replace(one, extra={**one.extra, **states}))
        yield states, results
        returned = {name: results[place] for name, place in outputs.items()}
        states = {name: _next(runner, name, states[name], value) for name, value in returned.items()}


def _next(runner: Runner, name: str, state: NDArray[Any], returned: NDArray[Any]) -> NDArray[Any]:
    """``state`` (1, ...) as the model returned it; as it was where that has another shape, or is infinite."""
    port = next(port for port in runner.ports if port.name == name)
    value = returned[:1] if has_batch_axis(port, runner.main) else returned[None]
    return value.astype(state.dtype) if value.shape == state.shape and np.isfinite(value).all() else state
