"""Samples as data readers of ONNX Runtime and Polygraphy.

=====================  ===========================================================================================
ONNX Runtime           ``quantize_static(model, path, OnnxRuntimeReader("samples.npz", model))``
Polygraphy             ``Calibrator(data_loader=PolygraphyLoader("samples.npz", model))``; for its command line a script
                       whose ``load_data()`` returns the loader: ``--data-loader-script``
NVIDIA ModelOpt        ``dfq-deploy synthesize model.onnx -o samples.npy``, and its ``--calibration_data_path``
=====================  ===========================================================================================
"""

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader

from dfq_deploy.errors import OptionError
from dfq_deploy.graph.inputs import make_feeds, model_inputs
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.samples.batches import check_samples_fit
from dfq_deploy.samples.samples import Samples

__all__ = ["OnnxRuntimeReader", "PolygraphyLoader"]


class PolygraphyLoader:
    """Samples as batches for Polygraphy: input name -> array. It can be iterated any number of times.

    Args:
        samples: the samples, or the file that ``dfq-deploy synthesize`` or ``calibrate`` wrote.
        model: the float model; its inputs determine the names and types of the arrays.
        batch: batch size; the last batch may be smaller.

    Raises:
        OptionError: the batch size is below 1.
        SamplesError: the file cannot be read, or does not fit the model.
        ModelError: the model cannot be read.
    """

    def __init__(self, samples: Samples | str | PathLike[str], model: ModelSource, batch: int = 1) -> None:
        if batch < 1:
            raise OptionError(f"PolygraphyLoader: batch={batch} must be at least 1")
        self.samples = samples if isinstance(samples, Samples) else Samples.load(Path(samples))
        self.batch = batch
        loaded = load(model)
        check_samples_fit(loaded, self.samples)
        self._inputs = model_inputs(loaded)

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / self.batch)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(self.samples), self.batch):
            part = self.samples.part(slice(start, start + self.batch))
            yield make_feeds(self._inputs, part.images, part.extra)


class OnnxRuntimeReader(CalibrationDataReader):  # type: ignore[misc]
    """Samples as data reader for ONNX Runtime's ``quantize_static``; arguments as for :class:`PolygraphyLoader`."""

    def __init__(self, samples: Samples | str | PathLike[str], model: ModelSource, batch: int = 1) -> None:
        self._loader = PolygraphyLoader(samples, model, batch)
        self.rewind()

    def __len__(self) -> int:
        return len(self._loader)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch; None after the last."""
        return next(self._remaining, None)

    def rewind(self) -> None:
        """Start again with the first batch."""
        self._remaining = iter(self._loader)
