"""Rockchip's NPUs: the QDQ file that RKNN-Toolkit2 reads, with float biases and static shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.plugins.contracts import Exporter, Written

from .qdq import Qdq

__all__ = ["Rknn"]

DEFAULT_EPSILON = 1e-5
"""Of LayerNormalization, by the ONNX specification."""


@dataclass(frozen=True)
class Rknn(Exporter):
    """Writes an ONNX file for ``RKNN.load_onnx``, whose Q and DQ ``build(do_quantization=False)`` takes over.

    Args:
        batch: batch size of inputs with a dynamic batch.
    """

    summary: ClassVar[str] = "ONNX with Q and DQ for RKNN-Toolkit2: float biases, static shapes"
    suffix: ClassVar[str] = ".rknn.onnx"

    batch: int = 1

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write the file.

        Raises:
            ModelError: the model does not fit the encodings, or its shapes cannot be fixed.
            OutputError: the file cannot be written.
        """
        closed = model.clone()
        fix_batch(closed, self.batch)
        _write_epsilons(closed)
        files = Qdq(integer_bias=False).export(closed, encodings, path).files
        return Written(files, (f"with RKNN-Toolkit2: load_onnx('{path.name}'), then build(do_quantization=False)",))


def _write_epsilons(model: ir.Model) -> None:
    """Write the epsilon of every LayerNormalization: RKNN-Toolkit2 2.5 fails on one that is left out."""
    for node in model.graph.all_nodes():
        if is_op(node, "LayerNormalization") and "epsilon" not in node.attributes:
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", DEFAULT_EPSILON)
