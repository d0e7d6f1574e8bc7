"""TensorRT: the QDQ file, an engine where TensorRT or TensorRT-RTX is, and a cache for version 10."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import DfqError, OptionError, PluginError, TargetError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.inputs import closed_shape, input_values, shown_shape
from dfq_deploy.plugins.contracts import BuildingExporter, ImplicitExporter, Written
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.tensorrt import rtx
from dfq_deploy.runtime.tensorrt.cache import JETPACK, CalibrationCache, version_number
from dfq_deploy.runtime.tensorrt.package import gpu_obstacle, tensorrt_package
from dfq_deploy.samples.samples import Samples

from .qdq import Qdq
from .tensorrt_engine import EngineOptions, build_engine
from .tensorrt_rtx import build_ahead, capabilities_of, require_rtx
from .tensorrt_run import Engine, try_engine

__all__ = ["CACHE", "TensorRT"]

logger = logging.getLogger(__name__)

CACHE = "calibration.cache"
"""File name of the calibration cache."""

ADDED_TENSOR_PREFIXES = ("(Unnamed Layer*", "ONNXTRT_")
"""Prefixes of tensors that TensorRT's parser adds."""


@dataclass(frozen=True)
class TensorRT(BuildingExporter, ImplicitExporter):
    """Writes a QDQ file for TensorRT 10 and 11, with float biases, and builds the engine if TensorRT is installed.

    Where TensorRT-RTX is installed, which needs no GPU, it compiles an engine for GeForce RTX ahead of time.

    For version 10 (the only one on Jetson) it also writes the calibration cache: with it TensorRT quantizes the float
    file and chooses itself which layers run in INT8.

    Args:
        float16: compute in half precision what stays in float.
        engine: build the engine if TensorRT's package and a GPU are available, or TensorRT-RTX.
        compute_capability: compile with TensorRT-RTX for these, e.g. ``86,89,120``; empty takes TensorRT and this
            machine's GPU if they are there, and else TensorRT-RTX with its default
            (:data:`dfq_deploy.runtime.tensorrt.rtx.CAPABILITIES`).
        batch, max_batch, workspace_mib, timing_cache, level: see :class:`.tensorrt_engine.EngineOptions`.
        version: version of the TensorRT that reads the cache; it may ignore a cache of another version.
    """

    summary: ClassVar[str] = "QDQ for TensorRT 10 and 11, the engine where TensorRT is, a calibration cache for 10"
    suffix: ClassVar[str] = ".tensorrt.onnx"

    float16: bool = False
    engine: bool = True
    compute_capability: str = ""
    batch: int = 1
    max_batch: int = 0
    workspace_mib: int = 0
    timing_cache: str = ""
    level: int = 3
    version: str = JETPACK

    def __post_init__(self) -> None:
        self._options()
        capabilities_of(self.compute_capability)
        try:
            version_number(self.version)
        except ValueError:
            raise OptionError(
                f"tensorrt: version={self.version} is not a version of TensorRT; give one such as {JETPACK}"
            ) from None

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write the QDQ file.

        Raises:
            ModelError: the model does not fit the encodings.
            OutputError: the file cannot be written.
            PluginError: compute capabilities are given, and TensorRT-RTX is not installed.
        """
        if self.compute_capability:
            require_rtx()
        return Qdq(integer_bias=False, float16=self.float16, whole_bytes=True).export(model, encodings, path)

    def build(self, path: Path, samples: Samples | None = None, progress: Progress = SILENT) -> Written:
        """Build the engine of the QDQ file at ``path``, and compare it with ONNX Runtime on ``samples``.

        Returns:
            the engine, if it could be built; and the result of the comparison, or how to build it on the device.

        Raises:
            OutputError: the engine cannot be written.
        """
        target = path.with_name(f"{_stem(path)}.engine")
        obstacle = self._obstacle()
        if self.engine and (self.compute_capability or (obstacle and rtx.rtx_version())):
            ahead = path.with_name(f"{_stem(path)}.rtx.engine")
            capabilities = capabilities_of(self.compute_capability, path)
            built = build_ahead(path, ahead, capabilities, self._options(), progress)
            return built._replace(notes=(*built.notes, *self._commands(path, target)))
        if obstacle:
            return Written((), (f"no engine was built: {obstacle}", *self._commands(path, target)))
        try:
            plan = build_engine(path, self._options(), progress)
        except DfqError as problem:
            return Written((), (f"no engine was built: {problem}",))
        with atomic_file(target) as partial:
            partial.write_bytes(plan)
        logger.info("build: %s, %d bytes", target.name, target.stat().st_size)
        if samples is None:
            return Written((target,))
        try:
            return Written((target,), try_engine(Engine(plan), path, samples, progress).sentences())
        except DfqError as problem:
            return Written((target,), (f"the engine was built, but cannot be run: {problem}",))

    def write_ranges(self, ranges: Mapping[str, Range], folder: Path) -> tuple[Path, ...]:
        """Write ``calibration.cache``.

        Raises:
            ModelError: the cache cannot store the name of a tensor.
            OutputError: it cannot be written.
        """
        CalibrationCache.of_ranges(ranges, version_number(self.version)).write(folder / CACHE)
        return (folder / CACHE,)

    def read_ranges(self, path: Path) -> dict[str, Range]:
        """Read the ranges of a calibration cache, without the tensors that TensorRT's ONNX parser adds.

        Raises:
            ModelError: the file cannot be read.
        """
        cache = CalibrationCache.read(path)
        return {name: cache.range_of(name) for name in cache.scales if not name.startswith(ADDED_TENSOR_PREFIXES)}

    def _options(self) -> EngineOptions:
        return EngineOptions(self.batch, self.max_batch, self.workspace_mib, self.timing_cache, self.level)

    def _obstacle(self) -> str:
        """Return the reason why no engine can be built; empty if one can."""
        if not self.engine:
            return "engine=false"
        try:
            tensorrt_package()
        except PluginError as problem:
            return str(problem).rpartition("; ")[0]
        return str(gpu_obstacle())

    def _commands(self, path: Path, target: Path) -> tuple[str, ...]:
        """Return the commands that build the engine on the device, or the reason why they are unknown."""
        try:
            common = [*self._shapes(path), f"--saveEngine={target.name}"]
        except DfqError as problem:
            return (str(problem),)
        if self.workspace_mib:
            common.append(f"--memPoolSize=workspace:{self.workspace_mib}")
        commands = [f"on the device: {shlex.join(['trtexec', f'--onnx={path.name}', '--stronglyTyped', *common])}"]
        if (path.parent / CACHE).exists():
            options = ["--onnx=FLOAT.onnx", "--int8", "--fp16", f"--calib={CACHE}", *common]
            commands.append(
                f"or, TensorRT 10 only, of the float model without Q and DQ: {shlex.join(['trtexec', *options])}"
            )
        return tuple(commands)

    def _shapes(self, path: Path) -> list[str]:
        """Return trtexec's arguments for dynamic inputs."""
        dynamic = [
            value for value in input_values(ir.load(path)) if value.shape and not isinstance(value.shape[0], int)
        ]
        for value in dynamic:
            if any(not isinstance(dim, int) for dim in list(value.shape or ())[1:]):
                raise TargetError(
                    f"input '{value.name}': shape {shown_shape(value)} is open beyond the batch; tell trtexec its "
                    "--minShapes, --optShapes and --maxShapes, or close it with --fix-shapes"
                )
        profiles = {
            str(value.name): self._options().profile((-1, *closed_shape(value)), str(value.name)) for value in dynamic
        }
        if not profiles:
            return []
        if self._options().is_fixed:
            return [f"--shapes={_listed(profiles, 0)}"]
        return [f"--{which}Shapes={_listed(profiles, index)}" for index, which in enumerate(("min", "opt", "max"))]


def _listed(profiles: Mapping[str, tuple[tuple[int, ...], ...]], index: int) -> str:
    # A name with one of trtexec's separators needs quotes.
    quoted = {name: f"'{name}'" if set(name) & set(":,") else name for name in profiles}
    return ",".join(f"{quoted[name]}:{'x'.join(map(str, shapes[index]))}" for name, shapes in profiles.items())


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix).removesuffix(".tensorrt").removesuffix(".qdq")
