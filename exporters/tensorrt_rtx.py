"""Build TensorRT-RTX engines ahead of time, for GPUs that are not here, and list their layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dfq_deploy.errors import DfqError, OptionError, PluginError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.inputs import closed_shape, input_values
from dfq_deploy.graph.reading import read_any
from dfq_deploy.plugins.contracts import Written
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.kernel_count import KernelCount, named
from dfq_deploy.runtime.tagged import Tagged, tag
from dfq_deploy.runtime.tensorrt import rtx
from dfq_deploy.runtime.tensorrt.engine_layers import EngineLayer, count_in_engine

from .tensorrt_engine import EngineOptions

__all__ = ["build_ahead", "capabilities_of", "require_rtx"]

TURING = 75


def capabilities_of(text: str, path: Path | None = None) -> tuple[int, ...]:
    """Parse compute capabilities such as ``86,89,120`` or ``8.6``; empty text is the default.

    Args:
        path: the file to compile; one in FP8 is compiled by default for those capabilities alone that have it.

    Raises:
        OptionError: one of them is unknown.
    """
    found = []
    for part in text.replace(" ", "").split(",") if text.strip() else ():
        number = part.upper().removeprefix("SM").replace(".", "")
        if not number.isdigit() or int(number) not in rtx.KNOWN_CAPABILITIES:
            known = ", ".join(map(str, rtx.KNOWN_CAPABILITIES))
            raise OptionError(f"tensorrt: compute_capability={part} is not one of {known}")
        found.append(int(number))
    if found or path is None:
        return tuple(dict.fromkeys(found)) or rtx.CAPABILITIES
    weights = read_any(path).graph.initializers.values()
    oldest = rtx.CHECKED if any(value.dtype == ir.DataType.FLOAT8E4M3FN for value in weights) else 0
    return tuple(capability for capability in rtx.CAPABILITIES if capability >= oldest)


def require_rtx() -> None:
    """Check that TensorRT-RTX is installed.

    Raises:
        PluginError: it is not.
    """
    if not rtx.rtx_version():
        raise PluginError(
            "tensorrt: compute_capability needs TensorRT-RTX, which compiles without a GPU; pip install "
            "'dfq-deploy[tensorrt-rtx]'"
        )


@dataclass(frozen=True, eq=False)
class _Attempt:
    """The result of compiling for one capability."""

    capability: int
    count: KernelCount | None
    layers: tuple[EngineLayer, ...]
    refusal: str = ""

    def to_json(self, names: Tagged) -> dict[str, Any]:
        if self.count is None:
            return {"capability": self.capability, "refusal": self.refusal}
        layers = [{**layer.to_json(), "nodes": [names.name(node) for node in layer.nodes]} for layer in self.layers]
        counted = {"integer": self.count.integer, "total": self.count.total}
        return {"capability": self.capability, **counted, "layers": layers}

    def sentence(self) -> str:
        where = f"TensorRT-RTX {rtx.rtx_version()}, SM{self.capability}"
        if self.count is None:
            return f"{where}: NVIDIA's compiler refuses the file: {self.refusal}{_turing(self.capability)}"
        parts = [f"{where}: {self.count.integer} of {self.count.total} layers in {self.count.precision}"]
        if self.count.in_float:
            parts.append(f"; in float: {named(self.count.in_float)}")
        return "".join(parts) + (_turing(self.capability) if not self.count.integer else "")


def build_ahead(
    path: Path, target: Path, capabilities: Sequence[int], options: EngineOptions, progress: Progress = SILENT
) -> Written:
    """Compile the QDQ file ``path`` into one engine, ``target``, for all ``capabilities`` that accept it.

    The log of an engine for several capabilities lists the layers of one, so the layers of each are those of an engine
    of its own.

    Returns:
        the engine; a sentence on each capability; and all layers, for the report.

    Raises:
        OutputError: the engine cannot be written.
    """
    progress.start("TensorRT-RTX", len(capabilities) + 1)
    try:
        tagged = tag(path)
        shapes = _shapes(path, options)
        attempts = []
        for capability in capabilities:
            attempts.append(_attempt(tagged, capability, shapes))
            progress.advance()
        accepted = [attempt.capability for attempt in attempts if attempt.count is not None]
        notes = tuple(attempt.sentence() for attempt in attempts)
        built = None
        if accepted:
            limits = {"level": options.level, "workspace_mib": options.workspace_mib}
            built = rtx.compile_file(path, accepted, shapes, **limits)
        progress.advance()
    except DfqError as problem:
        return Written((), (f"no engine was built: {problem}",))
    details = {
        "runtime": f"TensorRT-RTX {rtx.rtx_version()}",
        "capabilities": [attempt.to_json(tagged) for attempt in attempts],
    }
    if built is None or built.plan is None:
        refused = built.problems[0].words if built is not None and built.problems else "no capability is left"
        return Written((), (*notes, f"no engine was built: {refused}"), details)
    with atomic_file(target) as partial:
        partial.write_bytes(built.plan)
    listed = ", ".join(f"SM{capability}" for capability in accepted)
    said = f"{target.name} is compiled for {listed}, and was not run: TensorRT-RTX {rtx.rtx_version()} loads it there"
    return Written((target,), (*notes, said), {**details, "file": target.name})


def _attempt(tagged: Tagged, capability: int, shapes: rtx.Shapes) -> _Attempt:
    built = rtx.compiled(tagged.model, capability, shapes)
    if built.plan is None:
        words = "; ".join(problem.words for problem in built.problems)
        return _Attempt(capability, None, (), tagged.restored(words))
    engine = f"TensorRT-RTX {rtx.rtx_version()} for SM{capability}"
    return _Attempt(capability, count_in_engine(tagged, built.layers, engine), built.layers)


def _shapes(path: Path, options: EngineOptions) -> rtx.Shapes:
    dynamic = [value for value in input_values(read_any(path)) if value.shape is None or not value.shape.is_static()]
    return {str(value.name): options.profile((-1, *closed_shape(value)), str(value.name)) for value in dynamic}


def _turing(capability: int) -> str:
    if capability != TURING:
        return ""
    return "; on Turing TensorRT-RTX has no INT8 convolution and no float32 Gemm: build for it with TensorRT 10"
