"""Mixed precision: choose the bit width of each weight within a budget.

Mixed precision: how many bits each weight gets, from how much the outputs suffer for it on synthetic samples.

The outputs' error with one weight alone at fewer bits is its sensitivity, and errors of several are taken to add up
(Cai et al., "ZeroQ", CVPR 2020, arXiv 2001.00281, section 3.2, on distilled data). Bits are taken away where a byte
saved costs least, which walks along the Pareto frontier of the layers' convex hulls.
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
from dfq_deploy.quantization.bit_widths import Bits, Budget
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Allocation", "Point", "allocate", "frontier"]

WIDTHS = (8, 6, 5, 4, 3, 2)

PIXELS = 2**20
"""Values of the main input, over all samples together, that sensitivities are measured on."""

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Point:
    """One step along the frontier.

    Args:
        layer: the weight that gets fewer bits here; empty at the start.
        bits: how many it has then.
        size: bytes of all quantized weights, as a part of what they take in float32.
        error: predicted error of the outputs: KL divergence in nats where there are class scores, else squared error
            as a part of the signal.
    """

    layer: str
    bits: int
    size: float
    error: float


@dataclass(frozen=True)
class Allocation:
    """Bits for every layer.

    Args:
        bits: 8-bit activations, and weights of their own widths.
        curve: the whole frontier, from 8 bits to 2; ``chosen`` is the index of the point that was taken.
        disagreement: percent of the samples whose class changes there; None where the model does not classify.
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
    """Find the bits of each weight for a budget.

    Args:
        quantized: the model at 8 bits.
        budget: what may not be exceeded.

    Raises:
        TargetError: the budget cannot be kept, or the model has no class scores that could change.
    """
    size, drop = budget.size, budget.drop
    bench = _Bench(quantized, samples, device)
    if drop is not None and not bench.classifies:
        raise TargetError("the model has no class scores, so its drop cannot be limited; give a size instead")
    errors = bench.sensitivities(progress)
    parameters = {name: bench.exact[name].numel() for name in errors}
    curve = frontier(errors, parameters)
    if size is not None:
        fitting = [index for index, point in enumerate(curve) if point.size <= size]
        if not fitting:
            raise TargetError(
                f"a size of {size:.1%} cannot be reached: all weights at {WIDTHS[-1]} bits take {curve[-1].size:.1%}"
            )
        chosen = fitting[0]
    else:
        chosen = _farthest(bench, curve, drop or 0.0)
    widths = _widths(curve, chosen, errors)
    nodes = bench.nodes
    layers = {nodes[name]: (bits, 8) for name, bits in widths.items() if bits < 8}
    found = bench.disagreement(widths) if bench.classifies else None
    return Allocation(Bits(layers=layers), tuple(curve), chosen, found)


def frontier(errors: Mapping[str, Mapping[int, float]], parameters: Mapping[str, int]) -> list[Point]:
    """The points from 8 bits for all down to the fewest for all; the cheapest byte is saved first.

    Args:
        errors: weight -> bits -> error of the outputs with that weight alone at so many bits.
        parameters: weight -> number of values.
    """
    total = sum(parameters.values())
    steps = []
    for name, found in errors.items():
        hull = _hull([(bits, found[bits]) for bits in sorted(found, reverse=True)])
        for (wide, before), (narrow, after) in pairwise(hull):
            saved = (wide - narrow) * parameters[name]
            steps.append(((after - before) / saved, -wide, name, narrow, saved, after - before))
    size = sum(8 * count for count in parameters.values())
    error = sum(found[8] for found in errors.values())
    points = [Point("", 8, size / (8 * FLOAT_BYTES * total), error)]
    for _, _, name, narrow, saved, worse in sorted(steps):
        size, error = size - saved, error + worse
        points.append(Point(name, narrow, size / (8 * FLOAT_BYTES * total), error))
    return points


def _hull(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The lower convex hull of (bits, error), widest first: the slopes along it never fall."""
    hull: list[tuple[int, float]] = []
    for bits, error in points:
        while len(hull) > 1:
            (first, low), (second, middle) = hull[-2:]
            if (middle - low) * (second - bits) < (error - middle) * (first - second):
                break
            hull.pop()
        hull.append((bits, error))
    return hull


def _widths(curve: Sequence[Point], chosen: int, names: Mapping[str, object]) -> dict[str, int]:
    return dict.fromkeys(names, 8) | {point.layer: point.bits for point in curve[1 : chosen + 1]}


def _farthest(bench: "_Bench", curve: Sequence[Point], drop: float) -> int:
    """The last point of the frontier at which at most ``drop`` percent of the classes change, by bisection."""
    names = {point.layer: 0 for point in curve[1:]}
    good, bad = 0, len(curve)
    if bench.disagreement(_widths(curve, 0, names)) > drop:
        raise TargetError(f"8 bits for all weights change more than {drop:g} % of the classes; allow a larger drop")
    while bad - good > 1:
        middle = (good + bad) // 2
        if bench.disagreement(_widths(curve, middle, names)) <= drop:
            good = middle
        else:
            bad = middle
    return good


class _Bench:
    """The student at 8 bits, in which weights can be given other widths."""

    def __init__(self, quantized: Quantized, samples: Samples, device: str) -> None:
        prepared, model = quantized.prepared, quantized.prepared.model
        self.placement = prepared.placement
        images = twin_images(model, samples)
        self.images = images[: max(8, PIXELS // images[0].numel())].to(device)
        self.twin: Twin = teacher_of(model, samples.extra, device)
        self.classifies = score_count(model) is not None
        self.nodes = _nodes(prepared)
        self.exact = {name: self.twin.initializer(name).detach() for name in self.nodes}
        encodings = {**quantized.encodings, **bias_encodings(model, quantized.encodings)}
        self.hooks = fake_quantizers(encodings, device)
        self.wanted = self._outputs({})

    def sensitivities(self, progress: Progress) -> dict[str, dict[int, float]]:
        """Weight -> bits -> error of the outputs with it alone at so many bits, all else at 8."""
        progress.start("sensitivity", 1 + len(self.exact) * (len(WIDTHS) - 1))
        base = self.error(self._outputs(self.hooks))
        progress.advance()
        found: dict[str, dict[int, float]] = {}
        for name in self.exact:
            found[name] = {8: 0.0}
            for wider, bits in pairwise(WIDTHS):
                rounded = self._outputs({**self.hooks, name: self._at(name, bits)})
                # Fewer bits never count as better: that would be the samples' luck.
                found[name][bits] = max(self.error(rounded) - base, found[name][wider])
                progress.advance()
        return found

    def disagreement(self, widths: Mapping[str, int]) -> float:
        """Percent of the samples whose class changes."""
        hooks = {**self.hooks, **{name: self._at(name, bits) for name, bits in widths.items() if bits < 8}}
        given = self._outputs(hooks)
        return 100 * float((given.argmax(1) != self.wanted.argmax(1)).double().mean())

    def error(self, given: Tensor) -> float:
        """KL divergence of the class probabilities in nats, or squared error as a part of the signal."""
        if self.classifies:
            found, target = (torch.log_softmax(scores, 1) for scores in (given, self.wanted))
            return float(torch.nn.functional.kl_div(found, target, reduction="batchmean", log_target=True))
        return float((given - self.wanted).square().sum() / self.wanted.square().sum().clamp_min(1e-12))

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
    """Quantized weight -> the name of the node that reads it."""
    found: dict[str, str] = {}
    for node in weighted_nodes(prepared.model):
        for value in node.inputs[:2]:
            name = "" if value is None else str(value.name)
            if name in prepared.placement.weights:
                found.setdefault(name, str(node.name))
    return found
