"""Compile for NVIDIA GPUs without one: TensorRT-RTX's parser and builder, where they are installed.

``pip install 'dfq-deploy[tensorrt-rtx]'`` installs NVIDIA's package, which is proprietary: it is used, and no part of
it is contained here. Engines are built ahead of time for the compute capabilities that are asked for. They cannot be
run without a GPU, so nothing here runs them.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

from dfq_deploy.errors import PluginError, TargetError, first_line
from dfq_deploy.graph.inputs import closed_shape, input_values
from dfq_deploy.graph.writing import to_bytes

if TYPE_CHECKING:
    from dfq_deploy.runtime.tensorrt.engine_layers import EngineLayer

__all__ = [
    "CAPABILITIES",
    "CHECKED",
    "KNOWN_CAPABILITIES",
    "Compiled",
    "Problem",
    "Shapes",
    "compile_file",
    "compiled",
    "rtx_version",
]

KNOWN_CAPABILITIES = (75, 80, 86, 89, 120, 121)
"""Compute capabilities that TensorRT-RTX 1.7 compiles for: Turing, Ampere, Ada, Blackwell."""

CAPABILITIES = (86, 89, 120)
"""Capabilities that engines are built for by default: GeForce RTX 30, 40 and 50."""

CHECKED = 89
"""Capability for which files are checked: the oldest with INT8 and FP8."""

Shapes: TypeAlias = Mapping[str, tuple[tuple[int, ...], ...]]
"""Name of a dynamic input -> its smallest, usual and largest shape."""


@dataclass(frozen=True)
class Problem:
    """What NVIDIA's parser or builder says of a file that it refuses.

    Args:
        operator, node: the node that it names; empty if it names none.
        words: its message, on one line.
    """

    operator: str
    node: str
    words: str


@dataclass(frozen=True, eq=False)
class Compiled:
    """What the compiler made of a model.

    Args:
        plan: the serialized engine; None if the model was refused.
        layers: the layers of the engine; of one capability only, if it was built for several.
        problems: the reasons of a refusal.
    """

    plan: bytes | None
    layers: "tuple[EngineLayer, ...]"
    problems: tuple[Problem, ...] = ()


def rtx_version() -> str:
    """Return the version of the package ``tensorrt_rtx``; empty if it is not installed."""
    try:
        return version("tensorrt-rtx")
    except PackageNotFoundError:
        return ""


def compiled(model: ir.Model, capability: int, shapes: Shapes | None = None) -> Compiled:
    """Compile a model in memory for one capability.

    The last few results are kept, since one command asks several times for one file.

    Args:
        shapes: of the inputs whose sizes are open; None is a batch of 1.

    Raises:
        ModelError: the model is larger than 2 GB, or an input is open beyond the batch.
        TargetError, PluginError: as :func:`compile_file`.
    """
    if shapes is None:
        dynamic = [value for value in input_values(model) if value.shape is None or not value.shape.is_static()]
        shapes = {str(value.name): ((1, *closed_shape(value)),) * 3 for value in dynamic}
    return _compiled(to_bytes(model), capability, tuple(shapes.items()))


@lru_cache(maxsize=4)
def _compiled(model: bytes, capability: int, shapes: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]) -> Compiled:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return compile_file(path, (capability,), dict(shapes))


def compile_file(
    path: Path, capabilities: Sequence[int], shapes: Shapes, *, level: int = 3, workspace_mib: int = 0
) -> Compiled:
    """Compile an ONNX file into one engine for ``capabilities``; Q and DQ determine what runs in 8 bits.

    Args:
        shapes: of the inputs whose sizes are open.
        level: optimization level, 0 to 5.
        workspace_mib: largest temporary device memory of a layer; 0 is all.

    Raises:
        PluginError: the package cannot be loaded.
        TargetError: the compiler ended without an answer.
    """
    from dfq_deploy.runtime.tensorrt.engine_layers import read_layers

    with TemporaryDirectory() as name:
        folder = Path(name)
        request = {
            **{"model": str(path.resolve()), "capabilities": list(capabilities), "shapes": dict(shapes)},
            **{"level": level, "workspace_mib": workspace_mib},
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "dfq_deploy.runtime.tensorrt.rtx_worker", str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if ended.returncode:
            raise _failure(ended)
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        engine = folder / "engine"
        return Compiled(
            engine.read_bytes() if engine.exists() else None,
            read_layers(answer["layers"]),
            tuple(
                Problem(entry["operator"], entry["node"], first_line(entry["words"])) for entry in answer["problems"]
            ),
        )


def _failure(ended: "subprocess.CompletedProcess[str]") -> PluginError | TargetError:
    lines = ended.stderr.strip().splitlines() or ["no message"]
    if lines[-1].startswith(("ImportError", "ModuleNotFoundError")):
        return PluginError(
            f"TensorRT-RTX's Python package does not load ({first_line(lines[-1])}); pip install 'dfq-deploy"
            "[tensorrt-rtx]' installs it on Linux and Windows"
        )
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"status {ended.returncode}"
    return TargetError(f"TensorRT-RTX {rtx_version()} ended with {how}: {first_line(lines[-1])}")
