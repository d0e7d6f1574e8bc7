"""Measure how much the outputs change with one weight at fewer bits."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.query import score_count, weighted_nodes
from dfq_deploy.progress import Progress
from dfq_deploy.quantization.bit_widths import STORED_WIDTHS
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["SensitivityAnalysis"]

INPUT_VALUES = 2**20
"""Number of values of the main input, over all samples, on which sensitivities are measured."""


class SensitivityAnalysis:
    """Measures output errors of the student at 8 bits with other widths for single weights."""

    def __init__(self, quantized: Quantized, samples: Samples, device: str) -> None:
        prepared, model = quantized.prepared, quantized.prepared.model
        self.placement = prepared.placement
        images = twin_images(model, samples)
        self.images = images[: max(8, INPUT_VALUES // images[0].numel())].to(device)
        self.twin: Twin = teacher_of(model, samples.extra, device)
        self.classifies = score_count(model) is not None
        self.nodes = _nodes(prepared)
        self.exact = {name: self.twin.initializer(name).detach() for name in self.nodes}
        encodings = {**quantized.encodings, **bias_encodings(model, quantized.encodings)}
        self.hooks = fake_quantizers(encodings, device)
        self.float_outputs = self._outputs({})

    def sensitivities(self, progress: Progress) -> dict[str, dict[int, float]]:
        """Return weight -> bits -> error of the outputs with this weight alone at that width, all others at 8 bits."""
        progress.start("sensitivity", 1 + len(self.exact) * (len(STORED_WIDTHS) - 1))
        base = self.error(self._outputs(self.hooks))
        progress.advance()
        errors: dict[str, dict[int, float]] = {}
        for name in self.exact:
            errors[name] = {8: 0.0}
            for wider, bits in pairwise(STORED_WIDTHS):
                rounded = self._outputs({**self.hooks, name: self._at(name, bits)})
                # Fewer bits never count as better: that would be chance.
                errors[name][bits] = max(self.error(rounded) - base, errors[name][wider])
                progress.advance()
        return errors

    def disagreement(self, widths: Mapping[str, int]) -> float:
        """Return the percentage of the samples whose class changes."""
        hooks = {**self.hooks, **{name: self._at(name, bits) for name, bits in widths.items() if bits < 8}}
        outputs = self._outputs(hooks)
        return 100 * float((outputs.argmax(1) != self.float_outputs.argmax(1)).double().mean())

    def error(self, outputs: Tensor) -> float:
        """Return the KL divergence of the class probabilities in nats, or the squared error relative to the signal."""
        if self.classifies:
            log_probabilities, target = (torch.log_softmax(scores, 1) for scores in (outputs, self.float_outputs))
            return float(torch.nn.functional.kl_div(log_probabilities, target, reduction="batchmean", log_target=True))
        return float((outputs - self.float_outputs).square().sum() / self.float_outputs.square().sum().clamp_min(1e-12))

    def encoding(self, name: str, bits: int) -> Encoding:
        """Return the encoding of one weight at another width."""
        qtype, axis = self.placement.weights[name]
        return encoding_of_weight(self.exact[name].cpu().numpy(), replace(qtype, bits=bits), axis, best_bounds)

    def _at(self, name: str, bits: int) -> Hook:
        values = self.exact[name]
        rounded = fake_quantizers({name: self.encoding(name, bits)}, values.device)[name](values)
        return lambda _: rounded

    @torch.no_grad()
    def _outputs(self, hooks: Mapping[str, Hook]) -> Tensor:
        (name,) = self.twin.input_names
        parts = [self.twin.run({name: rows}, hooks=hooks) for rows in torch.split(self.images, 16)]
        names = self.twin.output_names[:1] if self.classifies else self.twin.output_names
        return torch.cat([torch.cat([part[out].flatten(1).float() for out in names], 1) for part in parts])


def _nodes(prepared: Prepared) -> dict[str, str]:
    """Return the name of the node that reads each quantized weight."""
    readers: dict[str, str] = {}
    for node in weighted_nodes(prepared.model):
        for value in node.inputs[:2]:
            name = "" if value is None else str(value.name)
            if name in prepared.placement.weights:
                readers.setdefault(name, str(node.name))
    return readers
