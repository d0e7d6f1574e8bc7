"""Choose the bit width of each weight within a budget.

The sensitivity of a weight is the error of the outputs with this weight alone at fewer bits, measured on synthetic
samples (:mod:`dfq_deploy.refinement.mixed_precision.sensitivity`). A size is filled as well as the weights allow
(:mod:`dfq_deploy.refinement.mixed_precision.knapsack`); a drop is looked for along the frontier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import TargetError
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import STORED_WIDTHS, Bits, Budget
from dfq_deploy.quantization.encode import Quantized
from dfq_deploy.refinement.mixed_precision.frontier import FileSize, Point, frontier
from dfq_deploy.refinement.mixed_precision.knapsack import widths_within
from dfq_deploy.refinement.mixed_precision.sensitivity import SensitivityAnalysis
from dfq_deploy.samples.samples import Samples

__all__ = ["Allocation", "allocate"]

Stored = Callable[[Mapping[str, Encoding]], int]
"""The size in bytes of the quantized file with these encodings."""


@dataclass(frozen=True)
class Allocation:
    """The bit widths of all layers.

    Args:
        bits: 8-bit activations, and the width of each weight.
        curve: the whole frontier, from 8 bits to 4, with the selected point.
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
    in_float: int,
    stored: Stored,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Allocation:
    """Choose the bit width of each weight within a budget.

    Args:
        quantized: the model at 8 bits.
        budget: the limit of size or drop.
        in_float: size of the float file in bytes.
        stored: measures the size of the quantized file; it is asked for the largest and for the smallest width.

    Raises:
        TargetError: the budget cannot be met, no weight is quantized, or a drop is limited for a model without class
            scores.
    """
    analysis = SensitivityAnalysis(quantized, samples, device)
    if budget.drop is not None and not analysis.classifies:
        raise TargetError("the model has no class scores, so its drop cannot be limited; give a size instead")
    parameters = {name: values.numel() for name, values in analysis.exact.items()}
    if not parameters:
        raise TargetError(
            "the model has no weight that is quantized, so there are no widths to choose; leave out --bits"
        )
    file = _file_size(quantized, analysis, parameters, in_float, stored)
    errors = analysis.sensitivities(progress)
    curve = frontier(errors, parameters, file)
    if budget.size is not None:
        widths = widths_within(errors, parameters, _bits_within(budget.size, file, curve, parameters))
        assert widths is not None
        curve, index = _with_point(curve, widths, errors, parameters, file)
    else:
        index = _last_within_drop(analysis, curve, budget.drop or 0.0)
        widths = _widths(curve, index, errors)
    nodes = analysis.nodes
    layers = {nodes[name]: (bits, 8) for name, bits in widths.items() if bits < 8}
    disagreement = analysis.disagreement(widths) if analysis.classifies else None
    return Allocation(Bits(layers=layers), tuple(curve), index, disagreement)


def _file_size(
    quantized: Quantized,
    analysis: SensitivityAnalysis,
    parameters: Mapping[str, int],
    in_float: int,
    stored: Stored,
) -> FileSize:
    widest, narrowest = max(STORED_WIDTHS), min(STORED_WIDTHS)
    narrow = {name: analysis.encoding(name, narrowest) for name in parameters}
    sizes = stored(quantized.encodings), stored({**quantized.encodings, **narrow})
    values = sum(parameters.values()) * (widest - narrowest)
    return FileSize(in_float, sizes[0], (sizes[0] - sizes[1]) / max(1, values))


def _bits_within(size: float, file: FileSize, curve: Sequence[Point], parameters: Mapping[str, int]) -> float:
    """The bits that the values of all weights may take in a file of ``size``, a fraction of the float file."""
    widest = max(STORED_WIDTHS) * sum(parameters.values())
    if size < curve[-1].size:
        raise TargetError(
            f"a size of {size:.1%} of the float file cannot be reached: with all weights at {min(STORED_WIDTHS)} bits "
            f"the file takes {curve[-1].size:.1%}, and at {max(STORED_WIDTHS)} bits {curve[0].size:.1%}"
        )
    return widest if size >= curve[0].size else widest - (file.widest - size * file.in_float) / file.saved


def _with_point(
    curve: Sequence[Point],
    widths: Mapping[str, int],
    errors: Mapping[str, Mapping[int, float]],
    parameters: Mapping[str, int],
    file: FileSize,
) -> tuple[list[Point], int]:
    """The curve with the point of ``widths``, and its index: it is not below the curve, which is a lower bound."""
    saved = sum((max(STORED_WIDTHS) - bits) * parameters[name] for name, bits in widths.items())
    point = Point("", min(widths.values()), file.part(saved), sum(errors[name][bits] for name, bits in widths.items()))
    larger = [other for other in curve if other.size > point.size]
    rest = [other for other in curve if other.size < point.size]
    return [*larger, point, *rest], len(larger)


def _widths(curve: Sequence[Point], index: int, names: Mapping[str, object]) -> dict[str, int]:
    return dict.fromkeys(names, 8) | {point.layer: point.bits for point in curve[1 : index + 1]}


def _last_within_drop(analysis: SensitivityAnalysis, curve: Sequence[Point], drop: float) -> int:
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
