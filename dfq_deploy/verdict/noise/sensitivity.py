"""Measure what each quantized layer alone costs at the model's outputs."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.query import constant_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.plugin_nodes import behind_plugins
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.noise.engine_choice import choose_engine, seconds_alone
from dfq_deploy.verdict.noise.engines import Engine, QuantizedTensors
from dfq_deploy.verdict.noise.layers import QuantizedLayer, quantized_layers
from dfq_deploy.verdict.noise.ratios import decibels, noise_ratio, repeatable

__all__ = ["BUDGET", "FEWEST_SAMPLES", "LayerNoise", "Sensitivity", "layer_noise", "rounded_tensors", "sample_count"]

BUDGET = 20.0
"""Seconds after which layers are measured in groups."""

VALUES = 2**19
"""Values of the main input, over all samples together: 32 small pictures, or 3 of 224 x 224."""

LEAST_SAMPLES, MOST_SAMPLES = 3, 32

FEWEST_SAMPLES = 2
"""Where the budget does not last for more: fewer samples cost less certainty than layers measured in groups."""


@dataclass(frozen=True)
class LayerNoise:
    """One quantized layer.

    Args:
        node, operator: name and operator.
        weight: its quantized constant; empty where it has none.
        activations: what else of its inputs is quantized.
        own_snr: signal to noise in dB at the outputs with this layer alone quantized, as the mean over the outputs of
            noise relative to signal; infinite where nothing changes.
        share: its part of the sum of all layers' noise, 0 to 1.
        accumulated_snr: signal to noise in dB behind it with all layers quantized; None where it is unknown.
        measured: False where it was measured together with its neighbors, and the noise is an equal part of theirs.
        position: of the layer among all of them, in the graph's order.
    """

    node: str
    operator: str
    weight: str
    activations: tuple[str, ...]
    own_snr: float
    share: float
    accumulated_snr: float | None
    measured: bool = True
    position: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        accumulated = self.accumulated_snr
        return {
            "node": self.node,
            "operator": self.operator,
            "weight": self.weight,
            "activations": list(self.activations),
            "own_snr_db": finite(self.own_snr),
            "share": self.share,
            "accumulated_snr_db": None if accumulated is None else finite(accumulated),
            "measured": self.measured,
            "position": self.position,
        }


@dataclass(frozen=True)
class Sensitivity:
    """The noise of all quantized layers.

    Args:
        layers: the noisiest first.
        total_snr: signal to noise in dB at the outputs with all of them quantized.
        preparation_snr: of the prepared model in float against the file as it was given: folding and equalization.
        samples: how many were used.
        engine: ``twin`` or ``onnxruntime``.
        seconds: that it took.
    """

    layers: tuple[LayerNoise, ...]
    total_snr: float
    preparation_snr: float
    samples: int
    engine: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report and ``inspect --sensitivity`` hold it."""
        return {
            "samples": self.samples,
            "engine": self.engine,
            "seconds": self.seconds,
            "total_snr_db": finite(self.total_snr),
            "preparation_snr_db": finite(self.preparation_snr),
            "layers": [layer.to_json() for layer in self.layers],
        }


def layer_noise(
    source: ir.Model | Runner,
    prepared: ir.Model,
    quantized: ir.Model,
    encodings: Mapping[str, Encoding],
    samples: Samples,
    *,
    corrected: bool = False,
    accumulated: Mapping[str, float] | None = None,
    budget_s: float | None = BUDGET,
    fewest_runs: int = 2,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Sensitivity:
    """Quantize each layer alone and compare the outputs with those of the float model.

    Biases stay in float: a corrected one makes up for the shift of all layers before it, and would count as noise with
    its layer alone. Where biases are corrected, each layer's own mean shift is taken out instead.

    Args:
        source: the float model as it was given, or what runs it.
        prepared: folded, lowered and equalized, before anything else has changed its weights
            (:func:`dfq_deploy.quantization.encode.prepare`); the function of ``source``.
        quantized: the model that ``encodings`` belong to: its weights may have been reconstructed or trained.
        samples: a few that nothing was calibrated with; at most 32 are used, of large ones fewer.
        corrected: whether biases make up for the mean shift of each channel.
        accumulated: signal to noise in dB by tensor name, where it has been measured on the file; None measures it.
        budget_s: seconds, for which fewer samples are used, and if that does not do the layers are measured in groups
            and the noisiest groups are taken apart; None measures each layer.
        fewest_runs: groups that are measured however short the budget is.

    Raises:
        ModelError: no output can be compared, since their sizes depend on the sample, or ONNX Runtime refuses the
            model.
    """
    began = time.perf_counter()
    unknown = {str(node.name) for node in behind_plugins(prepared)}
    layers = tuple(layer for layer in quantized_layers(prepared, encodings) if layer.node not in unknown)
    rounded = rounded_tensors(quantized, encodings)
    count = sample_count(samples)
    runner = source if isinstance(source, Runner) else Runner(source, name="the float model", quiet_threads=True)
    while True:
        part = _with_same_extras(samples.part(np.arange(count) * len(samples) // count))
        expected = repeatable(prepared, runner.run(part))
        engine, base, exact = choose_engine(prepared, rounded, part, expected, layers, device, corrected)
        base = repeatable(prepared, base)
        started = time.perf_counter()
        total = noise_ratio(base, engine.together(layers))
        seconds = time.perf_counter() - started
        allowed = math.inf if budget_s is None else budget_s - (started - began) - seconds
        needed = seconds_alone(engine, len(layers), exact, seconds)
        fewer = max(FEWEST_SAMPLES, int(count * max(allowed, 0.0) / needed)) if needed > allowed else count
        if fewer >= count:
            break
        count = fewer
    progress.start("layers", len(layers))
    runs = None if needed <= allowed else max(fewest_runs, int(allowed / max(seconds, 1e-6)))
    noise = _measure(engine, base, layers, total, runs, progress)
    if accumulated is None:
        accumulated = _accumulated(engine, layers, encodings)
    whole = sum(value for value, _ in noise.values()) or 1.0
    found = [_entry(place, layer, *noise[layer.node], whole, accumulated) for place, layer in enumerate(layers)]
    return Sensitivity(
        tuple(sorted(found, key=lambda layer: (layer.own_snr, layer.node))),
        decibels(total), decibels(noise_ratio(expected, base)), count, engine.name, time.perf_counter() - began,
    )  # fmt: skip


def sample_count(samples: Samples) -> int:
    """How many of ``samples`` are used: 32, of large ones fewer."""
    fitting = VALUES // max(1, int(samples.images[0].size))
    return min(len(samples), max(LEAST_SAMPLES, min(MOST_SAMPLES, fitting)))


def _with_same_extras(samples: Samples) -> Samples:
    """The other inputs of all samples are those of the first: so the twin takes them (:func:`teacher_of`)."""
    extra = {name: np.repeat(rows[:1], len(rows), axis=0) for name, rows in samples.extra.items()}
    return replace(samples, extra=extra) if extra else samples


def rounded_tensors(model: ir.Model, encodings: Mapping[str, Encoding]) -> QuantizedTensors:
    """What the encodings make of the model's weights, and of its activations."""
    constants = {}
    for name, value in model.graph.initializers.items():
        tensor = constant_of(value)
        if name in encodings and tensor is not None:
            constants[name] = np.asarray(encodings[name].fake_quantize(tensor.numpy()))
    return QuantizedTensors({name: one for name, one in encodings.items() if name not in constants}, constants)


def _measure(
    engine: Engine,
    base: Sequence[Output],
    layers: Sequence[QuantizedLayer],
    total: float,
    runs: int | None,
    progress: Progress,
) -> dict[str, tuple[float, bool]]:
    """Node -> its relative noise, and whether it was measured alone.

    Args:
        total: relative noise of all layers together.
        runs: of the whole model, that there is time for; None where there is time for each layer alone.
    """
    if runs is None:
        noise = {}
        for layer, outputs in engine.alone(layers):
            noise[layer.node] = noise_ratio(base, outputs), True
            progress.advance()
        return noise
    return _bisected(engine, base, layers, total, runs)


def _bisected(
    engine: Engine, base: Sequence[Output], layers: Sequence[QuantizedLayer], total: float, runs: int
) -> dict[str, tuple[float, bool]]:
    """Halve the noisiest group until ``runs`` are spent; what is left of a group shares its noise equally."""
    groups = [(total, list(layers))]
    while runs >= 2:
        splittable = [index for index, (_, members) in enumerate(groups) if len(members) > 1]
        if not splittable:
            break
        _, members = groups.pop(max(splittable, key=lambda index: groups[index][0]))
        middle = len(members) // 2
        groups += [(noise_ratio(base, engine.together(half)), half) for half in (members[:middle], members[middle:])]
        runs -= 2
    return {layer.node: (noise / len(members), len(members) == 1) for noise, members in groups for layer in members}


def _accumulated(
    engine: Engine, layers: Sequence[QuantizedLayer], encodings: Mapping[str, Encoding]
) -> dict[str, float]:
    """Signal to noise in dB of each encoded activation, with all layers quantized."""
    names = tuple(dict.fromkeys(name for layer in layers for name in (*layer.activations, layer.output) if name))
    found = {}
    for name, exact, given in zip(names, engine.tensors((), names), engine.tensors(layers, names), strict=True):
        if exact.shape == given.shape:
            tally = OutputTally()
            tally.add(exact, encodings[name].fake_quantize(given))
            found[name] = tally.distance(name).snr
    return found


def _entry(
    position: int, layer: QuantizedLayer, noise: float, measured: bool, whole: float, accumulated: Mapping[str, float]
) -> LayerNoise:
    behind = layer.output if layer.output in accumulated else next(iter(layer.activations), "")
    return LayerNoise(
        layer.node, layer.operator, layer.weight, layer.activations, decibels(noise), noise / whole,
        accumulated.get(behind), measured, position,
    )  # fmt: skip
