"""The one loop that all histogram calibrators share."""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import onnx_ir as ir

from dfq_deploy.contracts import Feeds
from dfq_deploy.progress import SILENT, Progress

from .histogram import Histogram, HistogramBuilder
from .onnxruntime import activations

__all__ = ["histograms"]

WORKERS = 2
"""Threads that count. NumPy holds the interpreter's lock for about half of the counting, so more do not help."""


def histograms(
    model: ir.Model, names: Collection[str], batches: Iterable[Feeds], progress: Progress = SILENT
) -> dict[str, Histogram]:
    """The histogram of each tensor over all samples, in one pass and constant memory.

    Raises:
        ModelError, SamplesError: as :func:`.onnxruntime.activations` and :meth:`.histogram.HistogramBuilder.add`.
    """
    builders = {name: HistogramBuilder(name) for name in names}
    with closing(activations(model, names, batches, progress)) as slices, ThreadPoolExecutor(WORKERS) as pool:
        for tensors in slices:
            # Each tensor has its own builder, and list() waits for all: no two threads share a builder.
            list(pool.map(HistogramBuilder.add, [builders[name] for name in tensors], tensors.values()))
    return {name: builder.histogram() for name, builder in builders.items()}
