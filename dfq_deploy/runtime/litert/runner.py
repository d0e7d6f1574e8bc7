"""Run a .tflite file on samples, as a Runner of ONNX Runtime runs an ONNX file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import ModelInput, main_input, make_feeds, with_main
from dfq_deploy.graph.main_input import MAIN_INPUT
from dfq_deploy.graph.task import TASK
from dfq_deploy.runtime.integer_io import IntegerTranslation
from dfq_deploy.runtime.litert.interpreter import LiteRtModel, Port
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["LiteRtRunner", "runner_of"]

SUFFIX = ".tflite"


class LiteRtRunner(Runner):
    """Runs a .tflite file on float32 samples in the order of the ONNX model that it was written from.

    Args:
        model: the file.
        main: name of the input that the images of the samples feed; None is what the file says.
        threads: number of threads; 0 uses one.

    Raises:
        PluginError: ``ai-edge-litert`` is not installed.
        ModelError: the file does not exist, or LiteRT cannot load it.
    """

    def __init__(self, model: Path, *, main: str | None = None, threads: int = 0) -> None:
        self._model = LiteRtModel(model, threads=max(1, threads))
        self.name = str(model)
        self.stated_main = self._model.metadata.get(MAIN_INPUT)
        self.stated_task = self._model.metadata.get(TASK)
        self.stated_preprocess = Preprocess.of(self._model.metadata)
        self._translation = IntegerTranslation.of(self._model.metadata, self.name)
        self.ports = [ModelInput(port.name, self._dtype(port), _shape(port)) for port in self._model.inputs]
        names = {port.name for port in self.ports}
        if len(names) > 1:
            self.ports = with_main(self.ports, next((name for name in (main, self.stated_main) if name in names), None))
        self.main = main_input(self.ports)
        self.output_names = tuple(port.name for port in self._model.outputs)
        self.open_outputs = set()
        self.batch = self.main.shape[0] if self.main.shape else None
        self.shape = self.main.shape[1:] if self.main.shape else None
        self._settled = True

    def _dtype(self, port: Port) -> str:
        return "float32" if port.scale or port.name in self._translation.inputs else str(port.dtype)

    def _graph(self) -> ir.Model | None:
        return None

    def _answer(self, batch: Samples, _: Any) -> list[NDArray[Any]]:
        feeds = self._translation.to_integers(make_feeds(self.ports, batch.images, batch.extra))
        found = self._model.run(feeds)
        return [found[name] for name in self.output_names]


def runner_of(path: Path, **options: Any) -> Runner:
    """Return what runs the file at ``path``: LiteRT for a .tflite file, ONNX Runtime for any other.

    Args:
        options: of :class:`dfq_deploy.runtime.runner.Runner`; LiteRT runs on the CPU, with threads that sleep.

    Raises:
        PluginError: LiteRT is needed and not installed.
        ModelError: the file cannot be loaded.
    """
    if path.suffix != SUFFIX:
        return Runner(path, **options)
    return LiteRtRunner(path, main=options.get("main"), threads=options.get("threads", 0))


def _shape(port: Port) -> tuple[int | None, ...]:
    return tuple(port.shape[place] for place in np.argsort(port.order))
