"""Say which layers hurt a quantized model, why, and what to do."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.tensor_values import channel_axis, tensor_values
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.noise.causes import Cause, cause_of_activation, cause_of_weight
from dfq_deploy.verdict.noise.histograms import Histogram, histogram_of
from dfq_deploy.verdict.noise.remedies import remedy_for
from dfq_deploy.verdict.noise.roles import role_of
from dfq_deploy.verdict.noise.sensitivity import BUDGET, LayerNoise, Sensitivity, layer_noise, sample_count

__all__ = ["HurtingLayer", "WhatHurts", "what_hurts"]

EXPLAINED = 5
"""Layers whose cause is looked for: the first five are shown."""

CAUSE_SAMPLES = 8

AUDIBLE = 30.0
"""dB of a layer's own noise at the outputs below which it is worth a look; ten such layers add up to 20 dB."""


CORRECTING = frozenset({"bias", "reconstruct", "finetune"})
"""Refinements that take the mean shift of each channel out."""


@dataclass(frozen=True)
class HurtingLayer:
    """One of the worst layers.

    Args:
        layer: its noise.
        causes: of its noisiest tensors, the worst first; a second one where it has at least a quarter of the noise.
        remedies: one for each cause.
        histogram: of the tensor of the first cause; None where there is no cause.
    """

    layer: LayerNoise
    causes: tuple[Cause, ...]
    remedies: tuple[str, ...]
    histogram: Histogram | None = None

    def finding(self) -> Finding:
        """For the verdict: ``CHECK`` where its own noise is below 30 dB."""
        layer, figures = self.layer, {"own_snr_db": self.layer.own_snr, "share": self.layer.share}
        level: Level = "CHECK" if layer.own_snr < AUDIBLE else "OK"
        causes = "; ".join(cause.sentence for cause in self.causes)
        message = (
            f"{layer.operator} '{layer.node}' alone gives {layer.own_snr:.1f} dB at the outputs, "
            f"{100 * layer.share:.0f} % of all noise" + (f": {causes}" if causes else "")
        )
        return Finding("layer-noise", level, message, self.remedies[0] if self.remedies else "", figures)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        causes = [
            {
                "tensor": cause.tensor, "kind": cause.kind, "sentence": cause.sentence, "part": cause.part,
                "remedy": remedy,
            }
            for cause, remedy in zip(self.causes, self.remedies, strict=True)
        ]  # fmt: skip
        drawn = {} if self.histogram is None else {"histogram": self.histogram.to_json()}
        return {**self.layer.to_json(), "causes": causes, **drawn}


@dataclass(frozen=True)
class WhatHurts:
    """The noise of all layers, and the causes of the first five.

    Args:
        sensitivity: all layers, the noisiest first.
        worst: the first ones.
    """

    sensitivity: Sensitivity
    worst: tuple[HurtingLayer, ...] = field(default=())

    def findings(self) -> tuple[Finding, ...]:
        """One for each of the worst layers."""
        return tuple(layer.finding() for layer in self.worst)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping: all layers, and causes for the first ones."""
        explained = {layer.layer.node: layer.to_json() for layer in self.worst}
        found = self.sensitivity.to_json()
        layers = [explained.get(layer.node, layer.to_json()) for layer in self.sensitivity.layers]
        return {**found, "layers": layers}


def what_hurts(
    source: ir.Model | Runner,
    reference: ir.Model,
    prepared: Prepared,
    encodings: Mapping[str, Encoding],
    samples: Samples,
    *,
    refine: Collection[str] = (),
    accumulated: Mapping[str, float] | None = None,
    budget_s: float | None = BUDGET,
    fewest_runs: int = 2,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> WhatHurts:
    """Measure each layer's own noise at the outputs, and explain the worst.

    Args:
        source: the float model as it was given, or what runs it.
        reference: ``prepared.model`` as it was before biases were corrected and roundings learned, a clone.
        prepared: what the encodings are for.
        encodings: by tensor name, weights included.
        samples: a few that nothing was calibrated with.
        refine: the refinements that were used.
        accumulated: signal to noise in dB by tensor name
            (:func:`dfq_deploy.evaluation.tensors.tensor_distances` against ``reference``); None measures it.
        budget_s, fewest_runs: seconds, after which layers are measured in groups, and how many at least.

    Raises:
        ModelError: no output can be compared.
    """
    noise = layer_noise(
        source, reference, prepared.model, encodings, samples,
        corrected=not CORRECTING.isdisjoint(refine), accumulated=accumulated, budget_s=budget_s,
        fewest_runs=fewest_runs, device=device, progress=progress,
    )  # fmt: skip
    shown = [layer for layer in noise.layers[:EXPLAINED] if layer.share > 0]
    part = samples.part(slice(min(CAUSE_SAMPLES, sample_count(samples))))
    explainer = _Explainer(reference, prepared.placement.limits, encodings, shown, part)
    worst = tuple(_explained(layer, explainer, prepared.target, refine) for layer in shown)
    return WhatHurts(noise, worst)


class _Explainer:
    """Values of the tensors of some layers, and their causes."""

    def __init__(
        self,
        reference: ir.Model,
        limits: Mapping[str, Limits],
        encodings: Mapping[str, Encoding],
        layers: Sequence[LayerNoise],
        samples: Samples,
    ) -> None:
        self.limits, self.encodings = limits, encodings
        self.nodes = {str(node.name): node for node in reference.graph}
        computed = (value for node in reference.graph for value in node.outputs)
        self.values = {name_of(value): value for value in (*reference.graph.inputs, *computed)}
        names = [name for layer in layers for name in layer.activations]
        axes = {name: _axis(self.values[name]) for name in names}
        self.rows = tensor_values(reference, names, samples, axes)

    def causes(self, layer: LayerNoise) -> tuple[Cause, ...]:
        """Of each of its quantized tensors, the noisiest first."""
        found = [self._activation(name) for name in layer.activations if name in self.rows]
        node = self.nodes[layer.node]
        for value in node.inputs:
            constant = constant_of(value)
            if constant is not None and name_of(value) == layer.weight:
                found.append(self._weight(node, layer.weight, constant))
        return tuple(sorted(found, key=lambda cause: -cause.noise))

    def histogram(self, layer: LayerNoise, tensor: str) -> Histogram | None:
        """Of one of its quantized tensors."""
        if tensor in self.rows:
            return histogram_of(tensor, self.rows[tensor], self.encodings[tensor])
        value = next((value for value in self.nodes[layer.node].inputs if name_of(value) == tensor), None)
        constant = constant_of(value)
        encoding = self.encodings[tensor]
        return None if constant is None else histogram_of(tensor, constant.numpy(), encoding, encoding.axis or 0)

    def node_to_keep(self, layer: LayerNoise, target: Target) -> str:
        """The node to keep in float: the layer's, or the one that writes what a float operator reads in integers."""
        node = self.nodes[layer.node]
        while node.op_type not in target.quantized_ops and layer.activations:
            value = node.inputs[0] if node is not self.nodes[layer.node] else self.values[layer.activations[0]]
            producer = None if value is None else value.producer()
            if producer is None:
                return layer.node
            node = producer
        return str(node.name)

    def _activation(self, name: str) -> Cause:
        limits = self.limits.get(name, UNBOUNDED)
        return cause_of_activation(
            name, self.rows[name], self.encodings[name], role=role_of(self.values[name]), limits=limits
        )

    def _weight(self, node: ir.Node, name: str, constant: ir.TensorProtocol) -> Cause:
        array = constant.numpy()
        axis = min(weight_axis(node), array.ndim - 1) if array.ndim > 1 else 0
        depthwise = node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1 and array.shape[1] == 1
        return cause_of_weight(name, array, self.encodings[name], axis, depthwise=depthwise)


def _axis(value: ir.Value) -> int:
    node = value.producer()
    return node.attributes.get_int("axis", 1) if node is not None and node.op_type == "Concat" else channel_axis(value)


def _explained(layer: LayerNoise, explainer: _Explainer, target: Target, refine: Collection[str]) -> HurtingLayer:
    causes = explainer.causes(layer)
    whole = sum(cause.noise for cause in causes)
    kept = explainer.node_to_keep(layer, target)
    causes = tuple(cause for cause in causes[:2] if cause is causes[0] or cause.noise >= whole / 4)
    remedies = tuple(
        remedy_for(cause, kept, target, refine, is_weight=cause.tensor == layer.weight) for cause in causes
    )
    return HurtingLayer(layer, causes, remedies, explainer.histogram(layer, causes[0].tensor) if causes else None)
