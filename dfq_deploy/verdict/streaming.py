"""Judge a streaming model on states of its own, which carry its errors from step to step."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.graph.query import score_count
from dfq_deploy.runtime.plugin_nodes import plugin_nodes
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.states import STREAM, state_outputs, stream
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.judge import SNR

__all__ = ["streaming_findings"]

STREAMS = 4
"""Runs of :data:`dfq_deploy.synthesis.states.STREAM` samples that are judged."""

GROWTH = 3.0
"""Decibels that are lost to the errors of the states where they count: the noise is twice as strong. What each step
adds is judged by the agreement."""

REMEDY = "keep in float the layers that compute the state (--keep-float), or give them 16 bits (--bits w8a16)"

Squares = dict[str, tuple[float, float]]


def streaming_findings(
    source: ir.Model, runners: tuple[Runner, Runner], samples: Samples, stated: Collection[str] = ()
) -> tuple[Finding, ...]:
    """What becomes of the outputs while each model is fed the states that it has returned itself.

    The agreement gives the quantized model float's states, at every step. Class scores and probabilities are ``CHECK``
    at most: they are judged by decibels here.

    Args:
        source: the float model.
        runners: of the float model and of the quantized one.
        samples: with a value for every state, which gives its shape.
        stated: names of inputs whose values the caller states: no states.

    Returns:
        a finding for models with states; else none.
    """
    outputs = state_outputs(source, stated)
    if not outputs or plugin_nodes(source):
        return ()
    part = replace(samples.part(slice(STREAMS * STREAM)), labels=None)
    found = _worst(_squares(runners, part, outputs, own=True))
    given = _worst(_squares(runners, part, outputs, own=False))
    if found is None or given is None:
        return ()
    name, noise = found
    steps = min(STREAM, len(part))
    message = f"output '{name}' has {noise:.1f} dB of signal to noise over {steps} steps on states of its own"
    message += f", {given[1]:.1f} on float's"
    level: Level = "OK" if given[1] - noise < GROWTH else SNR.level(noise)
    if level == "BAD" and (score_count(source) is not None or name in runners[0].probabilities()):
        level = "CHECK"  # classes may stay the same at so few decibels
    figures = {"snr_db": noise, "given_db": given[1]}
    return (Finding("streaming", level, message, "" if level == "OK" else REMEDY, figures),)


def _squares(runners: tuple[Runner, Runner], samples: Samples, outputs: Mapping[str, int], *, own: bool) -> Squares:
    """Sums of squares of float's outputs, and of the differences, by output; of the states where nothing else is."""
    exact, rounded = runners
    places = [place for place in range(len(exact.output_names)) if place not in outputs.values()]
    sums = np.zeros((len(exact.output_names), 2))
    others = stream(rounded, samples, outputs) if own else _on(rounded, samples, stream(exact, samples, outputs))
    for (_, wanted), (_, found) in zip(stream(exact, samples, outputs), others, strict=True):
        for place in places or outputs.values():
            if wanted[place].shape == found[place].shape and wanted[place].dtype.kind == "f":
                floats = wanted[place].astype(np.float64)
                sums[place] += np.square(floats).sum(), np.square(floats - found[place]).sum()
    return {name: (row[0], row[1]) for name, row in zip(exact.output_names, sums, strict=True) if row[0] > 0}


def _on(
    runner: Runner, samples: Samples, steps: Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]
) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """The outputs of ``runner`` on the states of other steps."""
    for index, (states, _) in enumerate(steps):
        one = samples.part(slice(index, index + 1))
        yield states, runner.feed(replace(one, extra={**one.extra, **states}))


def _worst(squares: Squares) -> tuple[str, float] | None:
    noises = {name: signal_to_noise(*pair) for name, pair in squares.items()}
    return min(noises.items(), key=lambda item: item[1], default=None)
