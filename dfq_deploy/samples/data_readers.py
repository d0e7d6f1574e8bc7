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
    """Samples as batches that Polygraphy takes: input name -> array. Can be gone through any number of times.

    Args:
        samples: the samples, or the file that ``dfq-deploy synthesize`` or ``calibrate`` wrote.
        model: the float model that they are for; its inputs name the arrays and give them their types.
        batch: samples in each; the last ones may be fewer.

    Raises:
        OptionError: the batch is below 1.
        SamplesError: the file cannot be read, or does not fit the model.
        ModelError: the model cannot be read.
    """

    def __init__(self, samples: Samples | str | PathLike[str], model: ModelSource, batch: int = 1) -> None:
        if batch < 1:
            raise OptionError(f"PolygraphyLoader: a batch of {batch} is none; choose 1 or more")
        self.samples = samples if isinstance(samples, Samples) else Samples.load(Path(samples))
        self.batch = batch
        loaded = load(model)
        check_samples_fit(loaded, self.samples)
        self._ports = model_inputs(loaded)

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / self.batch)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(self.samples), self.batch):
            part = self.samples.part(slice(start, start + self.batch))
            yield make_feeds(self._ports, part.images, part.extra)


class OnnxRuntimeReader(CalibrationDataReader):  # type: ignore[misc]
    """Samples as ONNX Runtime's ``quantize_static`` takes them; arguments as for :class:`PolygraphyLoader`."""

    def __init__(self, samples: Samples | str | PathLike[str], model: ModelSource, batch: int = 1) -> None:
        self._loader = PolygraphyLoader(samples, model, batch)
        self.rewind()

    def __len__(self) -> int:
        return len(self._loader)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None after the last."""
        return next(self._waiting, None)

    def rewind(self) -> None:
        """Begin again."""
        self._waiting = iter(self._loader)
