"""AIMET: the float model as it was prepared, and an encodings file that AIMET's simulation loads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError
from dfq_deploy.files.aimet_encodings import write_aimet
from dfq_deploy.graph.writing import write_model
from dfq_deploy.plugins.contracts import Exporter, Written

__all__ = ["Aimet"]


@dataclass(frozen=True)
class Aimet(Exporter):
    """Writes the float model without Q and DQ, and beside it ``NAME.encodings`` in AIMET's version 1.0.0."""

    summary: ClassVar[str] = "float ONNX and an encodings file for AIMET, and for Qualcomm's converters"
    suffix: ClassVar[str] = ".aimet.onnx"

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write both files.

        Raises:
            ModelError: the model is quantized already, so that there are no encodings; or one is FP8.
            OutputError: a file cannot be written.
        """
        if not encodings:
            raise ModelError(
                "aimet: AIMET takes the float model and its encodings; give the float file with --encodings "
                "encodings.json, as calibrate wrote it"
            )
        beside = path.with_suffix(".encodings")
        write_aimet(encodings, set(model.graph.initializers), beside)
        return Written((*write_model(model, path), beside))
