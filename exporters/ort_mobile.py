"""ONNX Runtime's ORT format for phones, and the list of operators that a reduced build needs.

Conversion, configuration and usability check are those of ``onnxruntime.tools``, the successor of the package
``onnxruntime-tools``.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import OptionError, TargetError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.large_models import fits_in_message, weight_bytes
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, is_op
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.plugins.contracts import Exporter, Written

from .qdq import Qdq, quantized_model

__all__ = ["CONFIGURATION", "OrtMobile", "OrtMobileRuntime"]

logger = logging.getLogger(__name__)

CONFIGURATION = "required_operators_and_types.config"
"""File name of the configuration for ``build.sh --include_ops_by_config`` of ONNX Runtime."""

STYLES = {"fixed": "Fixed", "runtime": "Runtime"}


@dataclass(frozen=True)
class OrtMobile(Exporter):
    """Writes ``model.ort`` with static shapes, and the list of operators and types that it needs.

    Args:
        batch: batch size of inputs with a dynamic batch.
        style: ``fixed`` optimizes for ONNX Runtime's own kernels and XNNPACK; ``runtime`` keeps Q and DQ for providers
            that compile parts of the graph (NNAPI), and saves the optimizations for the rest: the session option
            ``session.enable_saved_runtime_optimizations`` applies them.
        platform: ``arm`` keeps signed 8-bit activations, which XNNPACK needs; ``amd64`` makes them unsigned.
    """

    summary: ClassVar[str] = "ONNX Runtime's own format for phones, with the operators that a reduced build needs"
    suffix: ClassVar[str] = ".ort"

    batch: int = 1
    style: str = "fixed"
    platform: str = "arm"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise OptionError(f"ort: no style '{self.style}'; choose one of {', '.join(STYLES)}")
        if self.platform not in ("arm", "amd64"):
            raise OptionError(f"ort: no platform '{self.platform}'; choose arm or amd64")
        if self.batch < 1:
            raise OptionError(f"ort: batch={self.batch} must be at least 1")

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write the model and its configuration; notes have the result of ONNX Runtime's usability check.

        For a path that ends in ``.onnx`` the QDQ file is written there, with static shapes, and the ``.ort`` file and
        the configuration in the same folder.

        Raises:
            ModelError: the model does not fit the encodings, or its shapes cannot be fixed.
            TargetError: ONNX Runtime cannot convert it.
            OutputError: a file cannot be written.
        """
        written: tuple[Path, ...] = ()
        stem = path.name.removesuffix(path.suffix).removesuffix(".qdq")
        ort, configuration = path, path.with_name(f"{stem}.{CONFIGURATION}")
        with self._source(model, encodings) as source:
            if path.suffix == ".onnx":
                ort = path.with_name(f"{stem}.ort")
                # The output folder of a calibration has one model; elsewhere each model has its own configuration.
                configuration = path.with_name(CONFIGURATION) if stem == "model" else configuration
                written = Qdq().export(ir.load(source), {}, path).files
            _convert(source, *self._options())
            with atomic_file(ort) as partial:
                (converted,) = source.parent.glob("*.ort")
                partial.write_bytes(converted.read_bytes())
            with atomic_file(configuration) as partial:
                (listed,) = source.parent.glob("*.config")
                partial.write_text(_configuration(listed.read_text(encoding="utf-8"), ort.name), encoding="utf-8")
            logger.info("export: %s, %d bytes", ort.name, ort.stat().st_size)
            notes = _usability(source)
        if self.style == "runtime":
            notes += (
                "set session.enable_saved_runtime_optimizations to 1, or what NNAPI leaves to the CPU runs in float",
            )
        return Written((*written, ort, configuration), notes)

    @contextmanager
    def _source(self, model: ir.Model, encodings: Mapping[str, Encoding]) -> Iterator[Path]:
        """Context manager: write a temporary ONNX file, quantized and with static shapes."""
        quantized = quantized_model(model, encodings)
        fix_batch(quantized, self.batch)
        _write_zero_points(quantized.graph)
        _drop_missing_inputs(quantized.graph)
        if not fits_in_message(quantized):
            raise TargetError(
                f"ort: the quantized model has {weight_bytes(quantized) / 1e9:.1f} GB of weights, and an .ort file "
                "holds 2 GB; use --target cpu, which writes large weights to a separate file"
            )
        with TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            ir.save(quantized, source, format="protobuf")
            yield source

    def _options(self) -> tuple[str, ...]:
        style = ("--optimization_style", STYLES[self.style])
        return (*style, "--enable_type_reduction", "--target_platform", self.platform)


@dataclass(frozen=True)
class OrtMobileRuntime(OrtMobile):
    """Writes ``model.ort`` in the style ``runtime``, for NNAPI."""

    summary: ClassVar[str] = "the same with Q and DQ kept for providers that compile, such as NNAPI"

    style: str = "runtime"


def _write_zero_points(graph: ir.Graph) -> None:
    """Add missing zero points to DequantizeLinear nodes, in place.

    ONNX Runtime 1.31 cannot save runtime optimizations for nodes without one.
    """
    names = Names(graph)
    for node in graph:
        scale = node.inputs[1] if is_op(node, DEQUANTIZE_OPS) else None
        source = node.inputs[0] if node.inputs else None
        if scale is None or scale.shape is None or source is None or source.dtype is None:
            continue
        if len(node.inputs) < 3 or node.inputs[2] is None:
            zeros = np.zeros(scale.shape.numpy(), source.dtype.numpy())
            name = names.fresh(f"{source.name}_zero_point")
            zero_point = add_constant(graph, name, ir.Tensor(zeros, dtype=source.dtype, name=name))
            node.resize_inputs(3)
            node.replace_input_with(2, zero_point)


def _drop_missing_inputs(graph: ir.Graph) -> None:
    """Drop optional inputs at the end that are not there, in place: an empty name, as torch writes it for Pad.

    ONNX Runtime's usability checker takes an empty name for a tensor of unknown shape, and the node for one that no
    accelerator can take.
    """
    for node in graph:
        while node.inputs and node.inputs[-1] is None:
            node.resize_inputs(len(node.inputs) - 1)


def _convert(source: Path, *options: str) -> None:
    """Run the conversion in a separate process: it prints, and configures the root logger.

    Raises:
        TargetError: it fails.
    """
    tool = "onnxruntime.tools.convert_onnx_models_to_ort"
    command = [sys.executable, "-m", tool, source.name, *options]
    run = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise TargetError(f"{tool} fails on the model: {reason.rstrip('.')}")


def _configuration(listed: str, name: str) -> str:
    """Return the tool's list without the temporary paths in its header."""
    lines = [line for line in listed.splitlines() if not line.startswith("#")]
    return "\n".join([f"# What {name} needs: build.sh --include_ops_by_config takes this file.", *lines]) + "\n"


def _usability(source: Path) -> tuple[str, ...]:
    """Run ONNX Runtime's usability check, and return one sentence per provider."""
    from onnxruntime.tools.mobile_helpers import usability_checker as checker

    inferred = onnx.shape_inference.infer_shapes(onnx.load(source))
    partitions_by_provider = {
        "NNAPI": checker.check_nnapi_partitions(inferred, True),
        "Core ML": checker.check_coreml_partitions(inferred, True, "coreml_supported_mlprogram_ops.md"),
    }
    return tuple(_sentence(provider, partitions) for provider, partitions in partitions_by_provider.items())


def _sentence(provider: str, partitions: Any) -> str:
    parts = "part" if partitions.num_partitions == 1 else "parts"
    supported = (
        f"{partitions.num_supported_nodes} of {partitions.num_nodes} nodes in {partitions.num_partitions} {parts}"
    )
    unsupported = ", ".join(sorted(name.removeprefix("ai.onnx:") for name in partitions.unsupported_ops))
    suffix = f"; it has no {unsupported}" if unsupported else ""
    suitability = partitions.suitability().name.lower()
    return f"usability check: {provider} can take {supported} (worth a try: {suitability}){suffix}"
