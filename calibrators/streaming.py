"""The loop over the samples that all histogram calibrators share."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.plugins.contracts import Calibrator
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.activations import activations

from .histogram import Histogram, HistogramBuilder

__all__ = ["HistogramCalibrator", "histograms"]

WORKERS = 2
"""Number of counting threads. NumPy holds the interpreter lock for about half of the time, so more do not help."""


def histograms(
    model: ir.Model, names: Collection[str], batches: Iterable[Feeds], progress: Progress = SILENT
) -> dict[str, Histogram]:
    """Compute the histogram of each tensor over all samples, in one pass and constant memory.

    Raises:
        ModelError, SamplesError: as :func:`.activations` and :meth:`.HistogramBuilder.add`.
    """
    builders = {name: HistogramBuilder(name) for name in names}
    with closing(activations(model, names, batches, progress)) as slices, ThreadPoolExecutor(WORKERS) as pool:
        for tensors in slices:
            # Each tensor has its own builder, and list() waits for all: no two threads share a builder.
            list(pool.map(HistogramBuilder.add, [builders[name] for name in tensors], tensors.values()))
    return {name: builder.histogram() for name, builder in builders.items()}


class HistogramCalibrator(Calibrator):
    """Base class of calibrators that compute a range from the histogram and the type of a tensor."""

    def ranges(
        self,
        model: ir.Model,
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.Calibrator`."""
        histograms_by_name = histograms(model, tensors, batches, progress)
        return {name: self.range_of(histogram, tensors[name]) for name, histogram in histograms_by_name.items()}

    @abstractmethod
    def range_of(self, histogram: Histogram, qtype: QuantType) -> Range:
        """Compute the range of a tensor from its histogram."""
