"""TensorRT 10's own INT8 calibrators, fed with samples. TensorRT 11 has none: it reads Q and DQ."""

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import ModelError, PluginError, TargetError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.inputs import Feeds, main_input_value
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.plugins.contracts import Calibrator
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.ranges import derive_ranges
from dfq_deploy.runtime.tensorrt.cache import CalibrationCache
from dfq_deploy.runtime.tensorrt.package import add_profile, gpu_obstacle, read_network, tensorrt_package

from .tensorrt_batches import DeviceBatches, equal_batches

__all__ = ["TensorRT", "TensorRTEntropy", "TensorRTMinMax", "calibrator_of", "interface_of"]

DEVICE = "cuda"
"""Where TensorRT looks for batches, as torch names it: the current device."""


def interface_of(trt: Any, name: str) -> Any:
    """The calibrator interface ``name`` of TensorRT's package.

    Raises:
        PluginError: it has none, since version 11.
    """
    if not hasattr(trt, name):
        raise PluginError(
            f"TensorRT {trt.__version__} has no {name}: version 11 removed calibration and quantizes where Q and DQ "
            "stand; leave --method out, and build from the model.qdq.onnx that --target tensorrt writes"
        )
    return getattr(trt, name)


def calibrator_of(trt: Any, interface: str, batches: DeviceBatches, cache: Path | None = None) -> Any:
    """An instance of a calibrator interface of TensorRT, for ``IBuilderConfig.int8_calibrator``.

    TensorRT swallows what its callbacks raise, and goes on as if there were no more batches: the first such exception
    is kept as ``problem``, and whoever builds must raise it afterwards. ``written`` is the cache that TensorRT made.

    Args:
        trt: the package.
        interface: ``IInt8EntropyCalibrator2`` or ``IInt8MinMaxCalibrator``.
        batches: handed over one after the other, and no more.
        cache: a file that is taken instead of calibrating where it is there, and written where it is not.

    Raises:
        PluginError: as :func:`interface_of`.
    """
    base = interface_of(trt, interface)

    class Fed(base):  # type: ignore[misc, valid-type]  # the package has no types
        def __init__(self) -> None:
            base.__init__(self)
            self.problem: BaseException | None = None
            self.written: bytes | None = None

        def get_batch_size(self) -> int:
            return batches.size

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                return None if self.problem else batches.advance(names)
            except BaseException as problem:  # an interrupt would be swallowed too
                self.problem = problem
                return None

        def read_calibration_cache(self) -> bytes | None:
            try:
                return cache.read_bytes() if cache is not None and cache.exists() else None
            except BaseException as problem:
                self.problem = problem
                return None

        def write_calibration_cache(self, content: Any) -> None:
            try:
                self.written = bytes(content)
                # What was calibrated on a part of the samples must not be found by the next build.
                if cache is not None and self.problem is None:
                    with atomic_file(cache) as partial:
                        partial.write_bytes(self.written)
            except BaseException as problem:
                self.problem = problem

    return Fed()


@dataclass(frozen=True)
class TensorRT(Calibrator):
    """Builds an INT8 engine of the model with one of TensorRT's calibrators, and keeps the ranges that it found.

    Calibration comes before fusion, so that TensorRT measures every tensor of the model. The engine itself is thrown
    away: what it does with Q and DQ is another one.

    Args:
        cache: a calibration cache that is used where it is there, and written where it is not.

    Raises:
        PluginError: TensorRT 10 or an NVIDIA GPU is missing; said here, before samples are made.
    """

    interface: ClassVar[str]

    cache: Path | None = None

    def __post_init__(self) -> None:
        interface_of(tensorrt_package(), self.interface)
        obstacle = gpu_obstacle()
        if obstacle:
            raise PluginError(f"{self.interface} measures on the GPU, but {obstacle}; take --method entropy or minmax")

    def ranges(
        self,
        model: ir.Model,
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.Calibrator`. Ranges are symmetric, whatever the type.

        Raises:
            ModelError: TensorRT cannot read the model, or has measured less than is asked for.
            TargetError: it cannot build the engine.
        """
        trt = tensorrt_package()
        draft = read_network(trt, to_bytes(model), strongly_typed=False)
        fed = _fed(model, batches, progress)
        calibrator = calibrator_of(trt, self.interface, fed, self.cache)
        profile = add_profile(draft, {name: (shape,) * 3 for name, shape in fed.shapes.items()})
        if profile is not None:
            draft.config.set_calibration_profile(profile)
        draft.config.set_flag(trt.BuilderFlag.INT8)
        # The engine is not kept, so no time is spent on making it fast.
        draft.config.builder_optimization_level = 0
        draft.config.int8_calibrator = calibrator
        try:
            draft.build()
        except TargetError:
            if calibrator.problem is None:
                raise
        if calibrator.problem is not None:
            raise calibrator.problem
        return self._found(model, tensors, calibrator.written)

    def _found(self, model: ir.Model, tensors: Mapping[str, QuantType], written: bytes | None) -> dict[str, Range]:
        if written is None and self.cache is not None:
            cache = CalibrationCache.read(self.cache)
        else:
            cache = CalibrationCache.parse(written or b"", f"{self.interface}'s cache")
        known = {name: cache.range_of(name) for name in cache.scales}
        found, _ = derive_ranges(model, known, tensors)
        missing = [name for name in tensors if name not in found]
        if missing:
            raise ModelError(
                f"TensorRT has measured no range for {len(missing)} tensor(s), such as '{missing[0]}'; take --method "
                "entropy or minmax, which measure every one"
            )
        return found


def _fed(model: ir.Model, batches: Iterable[Feeds], progress: Progress) -> DeviceBatches:
    image = main_input_value(model)
    name = str(image.name)
    batch = image.shape[0] if image.shape is not None and len(image.shape) else None
    rest = iter(batches)
    first = next(rest, {})
    total = len(first[name]) * len(batches) if isinstance(batches, Sized) and name in first else 0
    equal = equal_batches(chain([first], rest), name, batch if isinstance(batch, int) else None)
    return DeviceBatches(equal, name, DEVICE, total, progress)


@dataclass(frozen=True)
class TensorRTEntropy(TensorRT):
    """TensorRT's entropy calibrator, which NVIDIA prefers for convolutional networks."""

    summary: ClassVar[str] = "IInt8EntropyCalibrator2 of TensorRT 10 on the GPU"
    interface: ClassVar[str] = "IInt8EntropyCalibrator2"


@dataclass(frozen=True)
class TensorRTMinMax(TensorRT):
    """TensorRT's min-max calibrator, which NVIDIA prefers for language models."""

    summary: ClassVar[str] = "IInt8MinMaxCalibrator of TensorRT 10 on the GPU"
    interface: ClassVar[str] = "IInt8MinMaxCalibrator"
