"""Choose what measures the noise of single layers soonest: the twin, or ONNX Runtime with switches."""

import time
from collections.abc import Sequence

import onnx_ir as ir

from dfq_deploy.errors import DfqError
from dfq_deploy.runtime.runner import Output
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.noise.engines import Engine, QuantizedTensors, RuntimeEngine, TwinEngine
from dfq_deploy.verdict.noise.layers import QuantizedLayer
from dfq_deploy.verdict.noise.ratios import decibels, noise_ratio
from dfq_deploy.verdict.noise.switches import SwitchEngine

__all__ = ["choose_engine", "seconds_alone"]

TRUSTED = 40.0
"""dB between the twin and ONNX Runtime on the float model, below which the twin runs another model than the file."""

QUICK = 2.0
"""Seconds for all layers in the twin that ONNX Runtime is not tried for: making its session takes some time too."""

REFUSALS = (DfqError, RuntimeError, ValueError, IndexError, KeyError)
"""How the twin ends on a graph that it cannot run."""


def choose_engine(
    model: ir.Model,
    rounded: QuantizedTensors,
    samples: Samples,
    expected: Sequence[Output],
    layers: Sequence[QuantizedLayer],
    device: str,
    corrected: bool,
) -> tuple[Engine, tuple[Output, ...], float]:
    """What measures ``layers`` soonest and computes what the file does; the float outputs, and seconds they took.

    The twin, or ONNX Runtime with switches where the twin takes long; ONNX Runtime alone where neither can.
    """
    found: list[tuple[float, Engine, tuple[Output, ...], float]] = []
    for make in (_twin, _switches):
        if found and (found[0][0] < QUICK or device != "cpu"):
            break
        try:
            engine = make(model, rounded, samples, layers, device, corrected)
            base, seconds = _timed_float(engine)
        except REFUSALS:
            continue  # another engine runs whatever ONNX Runtime does
        if decibels(noise_ratio(expected, base)) >= TRUSTED:
            found.append((seconds_alone(engine, len(layers), seconds, seconds), engine, base, seconds))
    if found:
        return min(found, key=lambda entry: entry[0])[1:]
    runtime = RuntimeEngine(model, rounded, samples)
    return runtime, *_timed_float(runtime)


def _twin(
    model: ir.Model, rounded: QuantizedTensors, samples: Samples, _: object, device: str, corrected: bool
) -> Engine:
    return TwinEngine(model, rounded, samples, device, corrected=corrected)


def _switches(
    model: ir.Model,
    rounded: QuantizedTensors,
    samples: Samples,
    layers: Sequence[QuantizedLayer],
    _: str,
    corrected: bool,
) -> Engine:
    return SwitchEngine(model, rounded, samples, layers, corrected=corrected)


def _timed_float(engine: Engine) -> tuple[tuple[Output, ...], float]:
    started = time.perf_counter()
    outputs = engine.together(())
    return outputs, time.perf_counter() - started


def seconds_alone(engine: Engine, layers: int, exact: float, rounded: float) -> float:
    """Seconds to measure each of ``layers`` alone: a run in float for each, and the rounding of all of them once.

    Args:
        exact, rounded: seconds of a run in float, and of one with all layers quantized.
    """
    return layers * min(exact, rounded) * (0.5 if engine.halves else 1.0) + max(rounded - exact, 0.0)
