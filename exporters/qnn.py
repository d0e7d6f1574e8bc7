"""Qualcomm's NPU through QNN: the QDQ file, and a context binary that loads without compiling.

The package ``onnxruntime-qnn`` contains QNN with a simulator of the HTP (the NPU) for x86: a machine without an NPU can
compile the file, check whether the whole graph runs on the HTP, and run it.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import PluginError, TargetError, one_line
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.plugins.contracts import Exporter, Written
from dfq_deploy.runtime.session import runtime_message
from dfq_deploy.targets.operator_lists import QNN_NEWER_OPS

from .qdq import Qdq, quantized_model

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["Qnn", "has_simulator", "open_session"]

logger = logging.getLogger(__name__)

PROVIDER = "QNN"
"""The name under which this package registers the execution provider."""

NOT_INSTALLED = (
    "onnxruntime-qnn is not installed, so the file was not tried and no context was compiled: "
    "pip install 'dfq-deploy[qnn]', on x86 with Linux or Windows"
)

NO_CPU_FALLBACK = ("session.disable_cpu_ep_fallback", "1")
"""Session entry: fail instead of running nodes in ONNX Runtime's CPU kernels."""


@dataclass(frozen=True)
class Qnn(Exporter):
    """Writes a QDQ file with static shapes and, if ``onnxruntime-qnn`` is installed, its context ``model_ctx.onnx``.

    Args:
        batch: batch size of inputs with a dynamic batch.
        htp_arch: version of the HTP for which the context is compiled, e.g. ``75``; empty for the simulator's.
        soc_model: number of the chip in QNN's documentation; empty for any.
    """

    summary: ClassVar[str] = "QDQ and a context binary for Qualcomm's NPU"
    suffix: ClassVar[str] = ".qnn.onnx"

    batch: int = 1
    htp_arch: str = ""
    soc_model: str = ""

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write the QDQ file to ``path`` and the context next to it; a note explains a missing context.

        Raises:
            ModelError: the model does not fit the encodings, or its shapes cannot be fixed.
            OutputError: a file cannot be written.
        """
        quantized = quantized_model(model, encodings)
        fix_batch(quantized, self.batch)
        files = Qdq().export(quantized, {}, path).files
        if not has_simulator():
            return Written(files, (NOT_INSTALLED,))
        stem = path.name.removesuffix(path.suffix).removesuffix(".qdq").removesuffix(".qnn")
        with TemporaryDirectory() as folder:
            compiled = Path(folder) / "context.onnx"
            try:
                self._compile(path, compiled)
            except TargetError as problem:
                return Written(files, (f"no context was compiled: {problem}{self._advice(quantized)}",))
            context = path.with_name(f"{stem}_ctx.onnx")
            with atomic_file(context) as partial:
                partial.write_bytes(compiled.read_bytes())
        logger.info("export: %s, %d bytes", context.name, context.stat().st_size)
        return Written((*files, context))

    def _advice(self, model: ir.Model) -> str:
        newer = sorted({node.op_type for node in model.graph if is_op(node, QNN_NEWER_OPS)})
        if not newer or self.soc_model:
            return ""
        return f"; {', '.join(newer)}: compile for a newer chip, e.g. --option soc_model=60 (Snapdragon X Elite)"

    def _compile(self, source: Path, context: Path) -> None:
        options = {"htp_arch": self.htp_arch, "soc_model": self.soc_model}
        entries = {"ep.context_enable": "1", "ep.context_embed_mode": "1", "ep.context_file_path": str(context)}
        open_session(source, entries, {name: value for name, value in options.items() if value})


def has_simulator() -> bool:
    """Return True if QNN is installed."""
    return find_spec("onnxruntime_qnn") is not None


def open_session(
    model: Path, entries: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> "ort.InferenceSession":
    """Create a session whose whole graph runs on the HTP, or on its simulator.

    Args:
        model: a QDQ file with static shapes, or a context.
        entries: further entries of the session configuration.
        options: further options of the provider.

    Raises:
        PluginError: ``onnxruntime-qnn`` is not installed.
        TargetError: QNN cannot run the whole graph.
    """
    if not has_simulator():
        raise PluginError("onnxruntime-qnn is not installed; pip install 'dfq-deploy[qnn]'")
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    session_options = ort.SessionOptions()
    session_options.log_severity_level = 4
    for name, value in (NO_CPU_FALLBACK, *(entries or {}).items()):
        session_options.add_session_config_entry(name, value)
    with _silenced():
        if not any(device.ep_name == PROVIDER for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(PROVIDER, qnn.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
        backend = {"backend_path": qnn.get_qnn_htp_path(), **(options or {})}
        session_options.add_provider_for_devices(devices, backend)
        try:
            return ort.InferenceSession(model, sess_options=session_options)
        except Exception as problem:  # ONNX Runtime's exceptions have no base class of their own
            raise TargetError(f"{model.name}: QNN refuses it: {_reason(problem)}") from None


def _reason(problem: Exception) -> str:
    if "fallback to CPU EP" in one_line(problem):
        return "some nodes would be left to the CPU; dfq-deploy check --target qnn says which"
    return runtime_message(problem)


@contextmanager
def _silenced() -> Iterator[None]:
    """Context manager: discard the output of QNN's libraries, which write to the streams of the process."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    copies = {number: os.dup(number) for number in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in copies:
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in copies.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
