"""Mixed precision: choose the bit width of each weight within a budget.

The sensitivity of a weight is the error of the outputs with this weight alone at fewer bits, measured on synthetic
samples. Errors of several weights are assumed to add up (Cai et al., "ZeroQ", CVPR 2020, arXiv 2001.00281, section 3.2,
on distilled data). Bits are removed where a saved byte costs least, which follows the Pareto frontier of the layers'
convex hulls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import TargetError
from dfq_deploy.graph.query import score_count, weighted_nodes
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import STORED_WIDTHS, Bits, Budget
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Allocation", "Point", "allocate", "frontier"]

INPUT_VALUES = 2**20
"""Number of values of the main input, over all samples, on which sensitivities are measured."""

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Point:
    """One point of the frontier.

    Args:
        layer: the weight that gets fewer bits at this point; empty at the start.
        bits: its new width.
        size: bytes of all quantized weights as the file stores them, as a fraction of their size in float32.
        error: predicted error of the outputs: KL divergence in nats if there are class scores, else squared error
            relative to the signal.
    """

    layer: str
    bits: int
    size: float
    error: float


@dataclass(frozen=True)
class Allocation:
    """The bit widths of all layers.

    Args:
        bits: 8-bit activations, and the width of each weight.
        curve: the whole frontier, from 8 bits to 4.
        chosen: index of the selected point in ``curve``.
        disagreement: percent of the samples whose class changes at that point; None if the model does not classify.
    """

    bits: Bits
    curve: tuple[Point, ...]
    chosen: int
    disagreement: float | None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report holds it."""
        return {
            "layers": {name: weights for name, (weights, _) in (self.bits.layers or {}).items()},
            "tradeoff": [asdict(point) for point in self.curve],
            "chosen": self.chosen,
            "disagreement": self.disagreement,
        }


def allocate(
    quantized: Quantized,
    samples: Samples,
    *,
    budget: Budget,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Allocation:
    """Choose the bit width of each weight within a budget.

    Args:
        quantized: the model at 8 bits.
        budget: the limit of size or drop.

    Raises:
        TargetError: the budget cannot be met, or a drop is limited for a model without class scores.
    """
    size, drop = budget.size, budget.drop
    analysis = _SensitivityAnalysis(quantized, samples, device)
    if drop is not None and not analysis.classifies:
        raise TargetError("the model has no class scores, so its drop cannot be limited; give a size instead")
    errors = analysis.sensitivities(progress)
    parameters = {name: analysis.exact[name].numel() for name in errors}
    curve = frontier(errors, parameters)
    if size is not None:
        within_size = [index for index, point in enumerate(curve) if point.size <= size]
        if not within_size:
            raise TargetError(
                f"a size of {size:.1%} cannot be reached: "
                f"all weights at {STORED_WIDTHS[-1]} bits take {curve[-1].size:.1%}"
            )
        index = within_size[0]
    else:
        index = _last_within_drop(analysis, curve, drop or 0.0)
    widths = _widths(curve, index, errors)
    nodes = analysis.nodes
    layers = {nodes[name]: (bits, 8) for name, bits in widths.items() if bits < 8}
    disagreement = analysis.disagreement(widths) if analysis.classifies else None
    return Allocation(Bits(layers=layers), tuple(curve), index, disagreement)


def frontier(errors: Mapping[str, Mapping[int, float]], parameters: Mapping[str, int]) -> list[Point]:
    """Return the points from 8 bits down to the smallest width for all weights; the cheapest byte is saved first.

    Args:
        errors: weight -> bits -> error of the outputs with this weight alone at that width.
        parameters: weight -> number of values.
    """
    total = sum(parameters.values())
    steps = []
    for name, by_bits in errors.items():
        hull = _hull([(bits, by_bits[bits]) for bits in sorted(by_bits, reverse=True)])
        for (wider, before), (narrower, after) in pairwise(hull):
            saved_bits = (wider - narrower) * parameters[name]
            steps.append(((after - before) / saved_bits, -wider, name, narrower, saved_bits, after - before))
    size = sum(8 * count for count in parameters.values())
    error = sum(by_bits[8] for by_bits in errors.values())
    points = [Point("", 8, size / (8 * FLOAT_BYTES * total), error)]
    for _, _, name, narrower, saved_bits, added_error in sorted(steps):
        size, error = size - saved_bits, error + added_error
        points.append(Point(name, narrower, size / (8 * FLOAT_BYTES * total), error))
    return points


def _hull(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the lower convex hull of (bits, error), widest first: the slopes along it never fall."""
    hull: list[tuple[int, float]] = []
    for bits, error in points:
        while len(hull) > 1:
            (first, low), (second, middle) = hull[-2:]
            if (middle - low) * (second - bits) < (error - middle) * (first - second):
                break
            hull.pop()
        hull.append((bits, error))
    return hull


def _widths(curve: Sequence[Point], index: int, names: Mapping[str, object]) -> dict[str, int]:
    return dict.fromkeys(names, 8) | {point.layer: point.bits for point in curve[1 : index + 1]}


def _last_within_drop(analysis: "_SensitivityAnalysis", curve: Sequence[Point], drop: float) -> int:
    """Find the last point of the frontier at which at most ``drop`` percent of the classes change, by bisection."""
    names = {point.layer: 0 for point in curve[1:]}
    accepted, rejected = 0, len(curve)
    if analysis.disagreement(_widths(curve, 0, names)) > drop:
        raise TargetError(f"8 bits for all weights change more than {drop:g} % of the classes; allow a larger drop")
    while rejected - accepted > 1:
        middle = (accepted + rejected) // 2
        if analysis.disagreement(_widths(curve, middle, names)) <= drop:
            accepted = middle
        else:
            rejected = middle
    return accepted


class _SensitivityAnalysis:
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

    def _at(self, name: str, bits: int) -> Hook:
        qtype, axis = self.placement.weights[name]
        values = self.exact[name]
        encoding: Encoding = encoding_of_weight(values.cpu().numpy(), replace(qtype, bits=bits), axis, best_bounds)
        rounded = fake_quantizers({name: encoding}, values.device)[name](values)
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
