"""Min-max: the range is the smallest and the largest value seen."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.plugins.contracts import Calibrator
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.activations import activations

from .histogram import Histogram, bounds_of

__all__ = ["MinMax"]


@dataclass(frozen=True)
class MinMax(Calibrator):
    """Range from the smallest to the largest value: no value is clipped, but outliers reduce the resolution.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018, section 3 (without the moving average).
    """

    summary: ClassVar[str] = "smallest and largest value seen (Jacob et al. 2018)"

    def ranges(
        self,
        model: ir.Model,
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.Calibrator`."""
        ranges: dict[str, Range] = {}
        with closing(activations(model, tensors, batches, progress)) as slices:
            for arrays in slices:
                for name, array in arrays.items():
                    if array.size:
                        batch_range = Range(*bounds_of(array, name))
                        ranges[name] = batch_range.union(ranges.get(name, batch_range))
        for name in tensors:
            if name not in ranges:
                raise SamplesError(f"tensor '{name}': no values; calibration needs at least one sample")
        return {name: ranges[name] for name in tensors}

    def range_of(self, histogram: Histogram, qtype: QuantType) -> Range:
        """Return the range of ``histogram``, for any type."""
        return Range(histogram.low, histogram.high)
