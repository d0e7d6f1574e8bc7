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
"""The device of the batches, by torch's name: the current CUDA device."""


def interface_of(trt: Any, name: str) -> Any:
    """Return the calibrator interface ``name`` of TensorRT's package.

    Raises:
        PluginError: the package does not have it (version 11).
    """
    if not hasattr(trt, name):
        raise PluginError(
            f"TensorRT {trt.__version__} has no {name}: version 11 removed calibration and quantizes by Q and DQ; "
            "omit --calibrator, and build from the model.qdq.onnx that --target tensorrt writes"
        )
    return getattr(trt, name)


def calibrator_of(trt: Any, interface: str, batches: DeviceBatches, cache: Path | None = None) -> Any:
    """Create a calibrator of TensorRT for ``IBuilderConfig.int8_calibrator``.

    TensorRT ignores exceptions of its callbacks, and continues as after the last batch: the first exception is kept as
    ``problem``, and the caller must raise it after the build. ``written`` is the cache that TensorRT wrote.

    Args:
        trt: the package.
        interface: ``IInt8EntropyCalibrator2`` or ``IInt8MinMaxCalibrator``.
        batches: the samples.
        cache: a file that is used instead of calibrating if it exists, and written otherwise.

    Raises:
        PluginError: as :func:`interface_of`.
    """
    base = interface_of(trt, interface)

    class SampleCalibrator(base):  # type: ignore[misc, valid-type]  # the package has no types
        def __init__(self) -> None:
            base.__init__(self)
            self.problem: BaseException | None = None
            self.written: bytes | None = None

        def get_batch_size(self) -> int:
            return batches.size

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                return None if self.problem else batches.advance(names)
            except BaseException as problem:  # TensorRT would ignore an interrupt too
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
                # The next build must not use a cache that was calibrated on a part of the samples.
                if cache is not None and self.problem is None:
                    with atomic_file(cache) as partial:
                        partial.write_bytes(self.written)
            except BaseException as problem:
                self.problem = problem

    return SampleCalibrator()


@dataclass(frozen=True)
class TensorRT(Calibrator):
    """Builds an INT8 engine of the model with one of TensorRT's calibrators, and returns the ranges that it measured.

    TensorRT calibrates before it fuses layers, and thus measures every tensor of the model. The engine is discarded: it
    differs from one that is built with Q and DQ.

    Args:
        cache: a calibration cache that is used if it exists, and written otherwise.

    Raises:
        PluginError: TensorRT 10 or an NVIDIA GPU is missing; raised before samples are synthesized.
    """

    interface: ClassVar[str]

    cache: Path | None = None

    def __post_init__(self) -> None:
        interface_of(tensorrt_package(), self.interface)
        obstacle = gpu_obstacle()
        if obstacle:
            raise PluginError(
                f"{self.interface} measures on the GPU, but {obstacle}; use --calibrator entropy or minmax"
            )

    def ranges(
        self,
        model: ir.Model,
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.Calibrator`. Ranges are symmetric, whatever the type.

        Raises:
            ModelError: TensorRT cannot read the model, or did not measure a tensor.
            TargetError: TensorRT cannot build the engine.
        """
        trt = tensorrt_package()
        draft = read_network(trt, to_bytes(model), strongly_typed=False)
        device_batches = _device_batches(model, batches, progress)
        calibrator = calibrator_of(trt, self.interface, device_batches, self.cache)
        profile = add_profile(draft, {name: (shape,) * 3 for name, shape in device_batches.shapes.items()})
        if profile is not None:
            draft.config.set_calibration_profile(profile)
        draft.config.set_flag(trt.BuilderFlag.INT8)
        # The engine is discarded, so it need not be fast.
        draft.config.builder_optimization_level = 0
        draft.config.int8_calibrator = calibrator
        try:
            draft.build()
        except TargetError:
            if calibrator.problem is None:
                raise
        if calibrator.problem is not None:
            raise calibrator.problem
        return self._ranges_of(model, tensors, calibrator.written)

    def _ranges_of(self, model: ir.Model, tensors: Mapping[str, QuantType], written: bytes | None) -> dict[str, Range]:
        if written is None and self.cache is not None:
            cache = CalibrationCache.read(self.cache)
        else:
            cache = CalibrationCache.parse(written or b"", f"{self.interface}'s cache")
        known = {name: cache.range_of(name) for name in cache.scales}
        ranges, _ = derive_ranges(model, known, tensors)
        missing = [name for name in tensors if name not in ranges]
        if missing:
            raise ModelError(
                f"TensorRT has measured no range for {len(missing)} tensor(s), such as '{missing[0]}'; use "
                "--calibrator entropy or minmax, which measure all tensors"
            )
        return ranges


def _device_batches(model: ir.Model, batches: Iterable[Feeds], progress: Progress) -> DeviceBatches:
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
