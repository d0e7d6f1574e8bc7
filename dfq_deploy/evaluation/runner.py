"""Run a model file, float or quantized, in ONNX Runtime, on any number of samples."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError

__all__ = ["Runnable", "Runner", "slices"]

Runnable: TypeAlias = str | PathLike[str] | bytes
"""A model file, or a serialized model."""

DTYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}

SLICE_BYTES = 2**25
"""A slice of inputs is no larger than this, so that activations stay small too."""

LARGEST_SLICE = 64


class Runner:
    """One model in ONNX Runtime, fed with float32 samples in slices of whatever batch it takes.

    Args:
        model: file or bytes.
        name: what errors call it; the file's path where not given.
        device: ``cpu``, or ``cuda[:N]`` where ONNX Runtime has its provider; ``auto`` is ``cpu``.
        quiet_threads: let idle threads sleep instead of spin; latencies of two sessions in one process
            can only be compared so.

    Raises:
        ModelError: it is missing, ONNX Runtime refuses it, or it has another number of inputs than one.
    """

    def __init__(
        self, model: Runnable, *, name: str | None = None, device: str = "auto", quiet_threads: bool = False
    ) -> None:
        self.name = name or ("the model" if isinstance(model, bytes) else str(model))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if quiet_threads:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise ModelError(f"{self.name}: no such file; give the path of an .onnx file")
        try:
            self.session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=_providers(device)
            )
        except ModelError:
            raise
        except Exception as problem:  # ONNX Runtime's exceptions have no base class of their own
            raise ModelError(
                f"{self.name}: ONNX Runtime cannot load it ({_reason(problem)}); check that it is an ONNX model"
            ) from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in DTYPES:
            listed = ", ".join(f"{entry.name}: {entry.type}" for entry in inputs) or "none"
            raise ModelError(f"{self.name}: a model with one float input is needed (inputs: {listed})")
        self.dtype = DTYPES[inputs[0].type]
        self.input_name: str = inputs[0].name
        self.output_names: tuple[str, ...] = tuple(entry.name for entry in self.session.get_outputs())
        self.batch, self.shape = _dimensions(inputs[0].shape)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a SamplesError where samples of ``shape`` do not fit the model."""
        fits = self.shape is None or (
            len(shape) == len(self.shape)
            and all(mine is None or mine == yours for mine, yours in zip(self.shape, shape, strict=True))
        )
        if not fits:
            shown = ", ".join("?" if dim is None else str(dim) for dim in self.shape or ())
            raise SamplesError(f"{self.name}: takes samples of shape ({shown}); these have {shape}")

    def run(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Outputs for ``images``, float32 (N, ...), in one batch or in as many as a fixed batch calls for.

        Raises:
            ModelError: ONNX Runtime fails on them, an output has no batch axis, or holds NaN or infinity.
        """
        parts = []
        for feed, count in self.batches(images):
            outputs = self.feed(feed)
            for name, output in zip(self.output_names, outputs, strict=True):
                self._refuse(name, output, len(feed))
            parts.append([output[:count] for output in outputs])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def batches(self, images: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], int]]:
        """``images`` as the model takes them, and how many of each batch are real.

        A fixed batch is filled up by repeating the last sample.
        """
        step = self.batch or len(images)
        for start in range(0, len(images), step):
            part = images[start : start + step]
            missing = step - len(part) if self.batch else 0
            yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part, len(part)

    def feed(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The outputs for one batch, as ONNX Runtime gives them.

        Raises:
            ModelError: ONNX Runtime fails on it.
        """
        try:
            outputs: list[NDArray[Any]] = self.session.run(
                None, {self.input_name: batch.astype(self.dtype, copy=False)}
            )
        except Exception as problem:  # as above
            raise ModelError(f"{self.name}: ONNX Runtime fails on it ({_reason(problem)})") from None
        return outputs

    def _refuse(self, name: str, output: NDArray[Any], batch: int) -> None:
        if np.ndim(output) == 0 or len(output) != batch:
            raise ModelError(
                f"{self.name}: output '{name}' has shape {np.shape(output)} for a batch of {batch}; "
                "only outputs whose first axis is the batch can be compared"
            )
        if not np.isfinite(output).all():
            raise ModelError(f"{self.name}: output '{name}' is NaN or infinite on these samples; it cannot be compared")


def slices(images: NDArray[np.float32], size: int = SLICE_BYTES) -> Iterator[slice]:
    """Consecutive slices of ``images`` of at most ``size`` bytes, so that memory stays flat."""
    step = int(np.clip(size // max(1, images[0].nbytes), 1, LARGEST_SLICE))
    return (slice(start, start + step) for start in range(0, len(images), step))


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ModelError(
            f"device '{device}': this ONNX Runtime has no CUDA; install onnxruntime-gpu or use --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": device.partition(":")[2] or "0"}), "CPUExecutionProvider"]


def _dimensions(shape: object) -> tuple[int | None, tuple[int | None, ...] | None]:
    """The batch, and one sample's shape; None where it is open."""
    if not isinstance(shape, list) or not shape:
        return None, None
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in shape]
    return dims[0], tuple(dims[1:])


def _reason(problem: Exception) -> str:
    """ONNX Runtime's message without its prefix and code, on one line."""
    text = " ".join(str(problem).split())
    return text.rsplit("] : ", maxsplit=1)[-1].split(" : ", maxsplit=2)[-1].rstrip(".")[:300]
