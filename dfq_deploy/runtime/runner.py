"""Run a model on any number of samples."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError, similar_file
from dfq_deploy.graph.detection import HeadPart, head_parts
from dfq_deploy.graph.foreign_files import foreign_format
from dfq_deploy.graph.inputs import ModelInput, main_input, make_feeds, model_inputs, with_main
from dfq_deploy.graph.logits import logits_of, probability_outputs
from dfq_deploy.graph.main_input import MAIN_INPUT
from dfq_deploy.graph.missing_batch import values_without_batch
from dfq_deploy.graph.task import TASK, score_output, state_task
from dfq_deploy.runtime.file_graph import normalized, read_graph, stated_without_batch
from dfq_deploy.runtime.integer_io import IntegerTranslation
from dfq_deploy.runtime.session import Session, runtime_message, session_options
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["Output", "Runnable", "Runner", "slices"]

Runnable: TypeAlias = str | PathLike[str] | bytes | ir.Model
"""A model file, a serialized model, or one in memory of any size."""

Output: TypeAlias = NDArray[Any] | tuple[NDArray[Any], ...]
"""An array (N, ...), one row per sample; if the first axis is not the batch, the outputs of all runs."""

DTYPES = {
    **{f"tensor({name})": name for name in ("float16", "int8", "int16", "int32", "int64", "bool")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64")},
    **{"tensor(float)": "float32", "tensor(double)": "float64"},
}
"""ONNX Runtime's name of an element type -> NumPy's name."""

SLICE_BYTES = 2**23
"""Largest size of a slice of inputs in bytes, 13 pictures of 224 x 224: the activations of more leave the caches."""

LARGEST_SLICE = 64


class Runner:
    """Runs one model in ONNX Runtime on float32 samples, in batches that the model supports.

    Args:
        model: file, bytes, or a model in memory.
        name: name for error messages; by default the path of the file.
        device: ``cpu``, or ``cuda[:N]`` if ONNX Runtime has that provider; ``auto`` is ``cpu``.
        quiet_threads: let idle threads sleep instead of spin, which is necessary to compare latencies of two sessions
            in one process.
        threads: number of threads; 0 uses one per core.
        profile: prefix of the file that ``session.end_profiling()`` writes; None disables profiling.
        main: name of the input that the images of the samples feed; None determines it from the model's metadata or its
            graph (:mod:`dfq_deploy.graph.main_input`).
        task: the task of the model (:data:`dfq_deploy.graph.task.TASKS`), if its metadata does not have it.

    Raises:
        ModelError: the file does not exist, ONNX Runtime cannot load it, or its inputs are not numeric.
    """

    def __init__(
        self,
        model: Runnable,
        *,
        name: str | None = None,
        device: str = "auto",
        quiet_threads: bool = False,
        threads: int = 0,
        profile: Path | None = None,
        main: str | None = None,
        task: str | None = None,
    ) -> None:
        self._source, self._task = model, task
        self.name = name or ("the model" if isinstance(model, bytes | ir.Model) else str(model))
        options = session_options(quiet_threads=quiet_threads)
        options.intra_op_num_threads = threads
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        if not isinstance(model, bytes | ir.Model):
            model = str(model)
            if not Path(model).is_file():
                found = foreign_format(Path(model)) if Path(model).is_dir() else None
                if found is not None:
                    raise ModelError(f"{self.name}: {found}")
                way_out = similar_file(Path(model)) or "; give the path of an .onnx file"
                raise ModelError(f"{self.name}: no such file{way_out}")
        try:
            self.session = Session(model, options, _providers(device))
        except ModelError:
            raise
        except Exception as problem:  # ONNX Runtime's exceptions have no base class of their own
            raise ModelError(
                f"{self.name}: ONNX Runtime cannot load it ({runtime_message(problem)}); check that it is an ONNX model"
            ) from None
        inputs = self.session.get_inputs()
        if not inputs or any(entry.type not in DTYPES for entry in inputs):
            listed = ", ".join(f"{entry.name}: {entry.type}" for entry in inputs) or "none"
            raise ModelError(f"{self.name}: a model whose inputs are numbers is needed (inputs: {listed})")
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.stated_main: str | None = metadata.get(MAIN_INPUT)
        self.stated_task: str | None = metadata.get(TASK)
        self.stated_preprocess = Preprocess.of(metadata)
        self._translation = IntegerTranslation.of(metadata, self.name)
        self.ports = [
            ModelInput(
                entry.name,
                "float32" if entry.name in self._translation.inputs else DTYPES[entry.type],
                _dimensions(entry.shape),
            )
            for entry in inputs
        ]
        names = {port.name for port in self.ports}
        if len(names) > 1:
            found = next((name for name in (main, self.stated_main) if name in names), None) or _main_of(self.graph())
            self.ports = with_main(self.ports, found)
        alone = stated_without_batch(metadata)
        if alone is None:
            alone = frozenset() if isinstance(model, ir.Model) else self._found_without_batch()
        self.ports = [port.with_added_batch() if port.name in alone else port for port in self.ports]
        self._whole_outputs = frozenset(alone)
        self.main = main_input(self.ports)
        self.output_names: tuple[str, ...] = tuple(entry.name for entry in self.session.get_outputs())
        self.open_outputs = {
            entry.name
            for entry in self.session.get_outputs()
            if not entry.shape or not all(isinstance(dim, int) for dim in entry.shape[1:])
        }
        self.batch = self.main.shape[0] if self.main.shape else None
        self._settled = False
        self.shape = self.main.shape[1:] if self.main.shape else None

    @property
    def task(self) -> str | None:
        """What the caller says that the model computes (:data:`dfq_deploy.graph.task.TASKS`)."""
        if isinstance(self._source, ir.Model):
            return self._source.metadata_props.get(TASK)
        return self._task or self.stated_task

    def scores(self, *, labelled: bool = False) -> str | None:
        """Name of the output that holds class scores (:func:`dfq_deploy.graph.task.score_output`); None without one."""
        graph = self.graph()
        output = None if graph is None else score_output(graph, labelled=labelled)
        return None if output is None else str(output.name)

    def activation(self, name: str) -> str:
        """The activation that turns logits into the output ``name`` (:class:`dfq_deploy.graph.logits.Logits`)."""
        graph = self.graph()
        outputs = () if graph is None else graph.graph.outputs
        return next((logits_of(value).activation for value in outputs if value.name == name), "")

    def probabilities(self) -> frozenset[str]:
        """Names of the outputs whose values lie between 0 and 1."""
        graph = self.graph()
        return frozenset() if graph is None else probability_outputs(graph)

    def head_parts(self) -> tuple[HeadPart, ...]:
        """The parts of a detector's outputs (:func:`dfq_deploy.graph.detection.head_parts`); empty for other models."""
        graph = self.graph()
        if graph is None or isinstance(self._source, ir.Model):
            return () if graph is None else head_parts(graph)
        return head_parts(normalized(graph))

    def graph(self) -> ir.Model | None:
        """The model as a graph, without external weights; None for a file of another format than ONNX."""
        if isinstance(self._source, ir.Model):
            return self._source
        model = read_graph(self._source, {entry.name: entry.shape for entry in self.session.get_outputs()})
        if model is not None:
            state_task(model, self._task)
        return model

    def _found_without_batch(self) -> frozenset[str]:
        first = main_input(self.ports).shape
        graph = None if first is not None and first[:1] == (1,) else self.graph()
        return frozenset() if graph is None else values_without_batch(normalized(graph))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a SamplesError if samples of ``shape`` do not fit the model."""
        fits = self.shape is None or (
            len(shape) == len(self.shape)
            and all(expected is None or expected == actual for expected, actual in zip(self.shape, shape, strict=True))
        )
        if not fits:
            shown = ", ".join("?" if dim is None else str(dim) for dim in self.shape or ())
            raise SamplesError(
                f"{self.name}: takes samples of shape ({shown}); these have {shape}; give samples that fit, or the "
                "model that they were made for"
            )

    def run(self, samples: Samples) -> list[Output]:
        """Compute the outputs for ``samples``, in one batch, or in several if the batch is fixed.

        Returns:
            for each output an array (N, ...). If its first axis is not the batch, or its size depends on the sample, as
            for a detector after non-maximum suppression, the outputs of all runs.

        Raises:
            ModelError: ONNX Runtime fails, or an output has NaN or infinity.
            SamplesError: the samples have no data for an input.
        """
        parts, counts = [], []
        for part, count in self.batches(samples):
            outputs = [np.asarray(output) for output in self.feed(part)]
            for name, output in zip(self.output_names, outputs, strict=True):
                self._check_finite(name, output)
            parts.append(outputs)
            counts.append((len(part), count))
        return [_concatenated(column, counts) for column in zip(*parts, strict=True)]

    def batches(self, samples: Samples) -> Iterator[tuple[Samples, int]]:
        """Yield ``samples`` in batches that the model supports, with the number of samples without padding.

        A fixed batch is padded by repeating the last sample.
        """
        if self.batch is None and len(samples) > 1:
            self._settle_batch(samples)
        step = self.batch or len(samples)
        for start in range(0, len(samples), step):
            index = np.arange(start, start + step if self.batch else len(samples))
            count = min(len(samples) - start, step)
            yield samples.part(np.minimum(index, len(samples) - 1)), count

    def _settle_batch(self, samples: Samples) -> None:
        """Take batches of 1 where the model declares an open batch and runs one sample alone; found out once."""
        if self._settled:
            return
        self._settled = True
        options = ort.RunOptions()
        options.log_severity_level = 4  # that it fails is expected
        try:
            self._answer(samples.part(slice(2)), options)
        except ModelError:
            self._answer(samples.part(slice(1)), None)
            self.batch = 1

    def feed(self, batch: Samples) -> list[NDArray[Any]]:
        """Return the outputs for one batch; integer inputs and outputs are converted with the scales of the file.

        Raises:
            ModelError: ONNX Runtime fails.
            SamplesError: the batch has no data for an input.
        """
        return self._answer(batch, None)

    def _answer(self, batch: Samples, options: ort.RunOptions | None) -> list[NDArray[Any]]:
        feeds = self._translation.to_integers(make_feeds(self.ports, batch.images, batch.extra))
        try:
            outputs: list[NDArray[Any]] = self.session.run(None, feeds, options)
        except Exception as problem:  # as above
            raise ModelError(f"{self.name}: ONNX Runtime fails on it ({runtime_message(problem)})") from None
        floats = self._translation.to_floats(self.output_names, outputs)
        return [
            np.asarray(array)[None] if name in self._whole_outputs else array
            for name, array in zip(self.output_names, floats, strict=True)
        ]

    def _check_finite(self, name: str, output: NDArray[Any]) -> None:
        if output.dtype.kind in "fiub" and not np.isfinite(output).all():
            raise ModelError(f"{self.name}: output '{name}' is NaN or infinite on these samples; it cannot be compared")


def _concatenated(arrays: Sequence[NDArray[Any]], counts: Sequence[tuple[int, int]]) -> Output:
    """Concatenate outputs with one row per sample; ``counts`` has the rows of each run, with and without padding."""
    rows = all(array.ndim and len(array) == fed for array, (fed, _) in zip(arrays, counts, strict=True))
    if not rows or len({array.shape[1:] for array in arrays}) > 1:
        return tuple(arrays)
    return np.concatenate([array[:real] for array, (_, real) in zip(arrays, counts, strict=True)])


def slices(images: NDArray[np.float32], size: int = SLICE_BYTES) -> Iterator[slice]:
    """Return consecutive slices of ``images`` of at most ``size`` bytes, to limit memory."""
    step = int(np.clip(size // max(1, images[0].nbytes), 1, LARGEST_SLICE))
    return (slice(start, start + step) for start in range(0, len(images), step))


def _main_of(model: ir.Model | None) -> str | None:
    return None if model is None else main_input(model_inputs(model)).name


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ModelError(
            f"device '{device}': this ONNX Runtime has no CUDA; install onnxruntime-gpu or use --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": device.partition(":")[2] or "0"}), "CPUExecutionProvider"]


def _dimensions(shape: object) -> tuple[int | None, ...] | None:
    """Return the shape with None for dynamic dimensions; None if the shape is unknown."""
    if not isinstance(shape, list):
        return None
    return tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in shape)
