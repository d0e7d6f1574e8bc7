"""The exporter ``litert``: options, files, what the trial on this machine says."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import DfqError, OptionError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.plugins.contracts import BuildingExporter, Written
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.litert import schema
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

from ..qdq import Qdq, quantized_model
from .conversion import converted
from .metadata import NAME, metadata, with_files
from .serialization import serialized
from .tensors import Graph
from .trial import try_file

__all__ = ["LiteRT"]

logger = logging.getLogger(__name__)

LABELS = "labels.txt"

OWN = "dfq_deploy."
"""Prefix of the metadata of an ONNX file that the .tflite file has too."""


@dataclass(frozen=True)
class LiteRT(BuildingExporter):
    """Writes ``model.tflite`` for LiteRT (TensorFlow Lite), with signature and metadata, and tries it.

    Args:
        batch: batch size of inputs with an open batch.
        layout: ``nhwc`` feeds images as (N, H, W, C) and returns maps in that order where they lie so; ``nchw`` keeps
            the order of the ONNX model.
        integer_only: write HardSwish, HardSigmoid, PRelu, Gelu, Softmax and products of two activations in integers,
            for accelerators that have no floats. On CPUs floats with their conversions are faster, since XNNPACK has no
            such kernels.
        labels: a file with the names of the classes, one a line; it is packed into the .tflite file.
        threads: of the trial.
    """

    summary: ClassVar[str] = "a .tflite file for LiteRT (TensorFlow Lite), written without TensorFlow"
    suffix: ClassVar[str] = ".tflite"

    batch: int = 1
    layout: str = "nhwc"
    integer_only: bool = False
    labels: str = ""
    threads: int = 1

    def __post_init__(self) -> None:
        if self.layout not in ("nhwc", "nchw"):
            raise OptionError(f"litert: no layout '{self.layout}'; choose nhwc or nchw")
        if self.batch < 1 or self.threads < 1:
            raise OptionError(f"litert: batch={self.batch} and threads={self.threads} must be at least 1")

    def refuse(self, model: ir.Model) -> None:
        """Convert the float ``model`` without writing it.

        Raises:
            PluginError: ``ai-edge-litert`` is not installed.
            TargetError: LiteRT lacks an operator; the message names the nodes.
            ModelError: a dimension beyond the batch is open.
            OptionError: the file of labels cannot be read.
        """
        schema()
        self._labels()
        self._converted(model)

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write the .tflite file; for a path that ends in ``.onnx``, beside the QDQ file, which is written there.

        Raises:
            PluginError, TargetError, OptionError: as :meth:`refuse`.
            ModelError: the model does not fit the encodings, or a dimension beyond the batch is open.
            OutputError: a file cannot be written.
        """
        quantized = quantized_model(model, encodings) if encodings else model
        content, notes = self._content(quantized)
        written: tuple[Path, ...] = ()
        if path.suffix == ".onnx":
            written = Qdq().export(quantized, {}, path).files
        with atomic_file(_tflite(path)) as partial:
            partial.write_bytes(content)
        logger.info("export: %s, %d bytes", _tflite(path).name, len(content))
        return Written((*written, _tflite(path)), notes)

    def build(self, path: Path, samples: Samples | None = None, progress: Progress = SILENT) -> Written:
        """Run the file in LiteRT: compare it with ONNX Runtime on the QDQ file at ``path``, and time it.

        Returns:
            no further files, and the result as notes.
        """
        try:
            source = path if path.suffix == ".onnx" and samples is not None else None
            trial = try_file(_tflite(path), source, samples, threads=self.threads, progress=progress)
        except DfqError as problem:
            return Written((), (f"the .tflite file was written, but not tried: {problem}",))
        return Written((), trial.sentences())

    def _content(self, model: ir.Model) -> tuple[bytes, tuple[str, ...]]:
        graph, labels = self._converted(model), self._labels()
        described = metadata(graph, Preprocess.of(model.metadata_props), LABELS if labels else None)
        own = [(key, value.encode()) for key, value in sorted(model.metadata_props.items()) if key.startswith(OWN)]
        content = serialized(graph, f"written by dfq-deploy, layout {self.layout}", [*own, (NAME, described)])
        return with_files(content, {LABELS: labels} if labels else {}), ()

    def _converted(self, model: ir.Model) -> Graph:
        last = self.layout == "nhwc"
        return converted(model, batch=self.batch, channels_last=last, integer_only=self.integer_only)

    def _labels(self) -> bytes:
        if not self.labels:
            return b""
        try:
            lines = Path(self.labels).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise OptionError(f"litert: labels={self.labels} cannot be read ({problem}); give a text file") from None
        return "".join(f"{line.strip()}\n" for line in lines if line.strip()).encode()


def _tflite(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix(path.suffix).removesuffix('.qdq')}.tflite")
