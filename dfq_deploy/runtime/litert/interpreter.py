"""Run a .tflite file on arrays in the order of the ONNX model, and tell which operations XNNPACK took."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError, first_line
from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.runtime.litert.package import interpreter_class, schema

__all__ = ["AXES", "Delegation", "LiteRtModel", "Port"]

AXES = "dfq_deploy.axes"
"""Name of the metadata with the order of the axes of inputs and outputs, as JSON.

``{"inputs": {NAME: [0, 2, 3, 1]}, "outputs": {...}}``: axis j in the file is axis ``order[j]`` in the ONNX model.
"""

OWN = "dfq_deploy."
"""Prefix of this package's entries of the metadata."""

DELEGATE = "DELEGATE"


@dataclass(frozen=True)
class Port:
    """An input or output.

    Args:
        name: in the signature.
        index: of its tensor.
        shape, dtype: as in the file.
        scale, zero_point: of integers; a scale of 0 says that the values are what they are.
        order: how its axes lie.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    order: tuple[int, ...]

    def stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Convert an array of the ONNX model, floats or what the tensor has, to what the file takes.

        Raises:
            SamplesError: its shape does not fit.
        """
        moved = array.transpose(self.order) if array.ndim == len(self.order) else array
        if moved.shape != self.shape:
            raise SamplesError(f"input '{self.name}': takes {self.shape} in the file, and is given {moved.shape}")
        if self.scale and array.dtype.kind == "f":
            limits = np.iinfo(self.dtype)
            moved = np.clip(np.rint(moved / np.float32(self.scale)) + self.zero_point, limits.min, limits.max)
        return np.ascontiguousarray(moved.astype(self.dtype, copy=False))

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Convert what the file returns to floats in the order of the ONNX model."""
        if self.scale:
            array = (array.astype(np.float32) - self.zero_point) * np.float32(self.scale)
        return array.transpose(np.argsort(self.order)) if array.ndim else array


@dataclass(frozen=True)
class Delegation:
    """The operations of a file that XNNPACK runs.

    Args:
        taken, total: how many, of how many.
        left: the operations that LiteRT's own kernels run -> how many of each.
    """

    taken: int
    total: int
    left: Mapping[str, int]

    def __str__(self) -> str:
        """``71 of 73 operations by XNNPACK, left: GATHER, 2 TRANSPOSE``."""
        names = ", ".join(name if count == 1 else f"{count} {name}" for name, count in self.left.items())
        return f"{self.taken} of {self.total} operations by XNNPACK{f', left: {names}' if names else ''}"


class LiteRtModel:
    """A .tflite file, ready to run.

    Args:
        source: the file, or its content.
        threads: number of threads.
        xnnpack: let XNNPACK take what it can; else LiteRT's own kernels run.

    Attributes:
        inputs, outputs: in the order of the file.
        metadata: this package's entries, by name.

    Raises:
        PluginError: ``ai-edge-litert`` is not installed.
        ModelError: the file does not exist, or LiteRT cannot load it.
    """

    def __init__(self, source: Path | bytes, *, threads: int = 1, xnnpack: bool = True) -> None:
        self.name = "the .tflite file" if isinstance(source, bytes) else str(source)
        self._interpreter = _loaded(_content(source, self.name), self.name, threads, xnnpack)
        names, self.metadata = _described(_content(source, self.name))
        try:
            axes = parsed_json(self.metadata.get(AXES, "{}"))
            self.inputs = tuple(
                _port(detail, names, axes.get("inputs", {})) for detail in self._interpreter.get_input_details()
            )
            self.outputs = tuple(
                _port(detail, names, axes.get("outputs", {})) for detail in self._interpreter.get_output_details()
            )
        except (ValueError, TypeError, AttributeError) as problem:
            raise ModelError(
                f"{self.name}: its metadata '{AXES}' cannot be read ({first_line(problem)}); export it again"
            ) from None

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, in floats and in the order of the ONNX model.

        Raises:
            SamplesError: an input is missing, or its shape does not fit.
            ModelError: LiteRT fails.
        """
        self._set(feeds)
        self._invoke()
        return {port.name: port.restored(self._interpreter.get_tensor(port.index)) for port in self.outputs}

    def milliseconds(self, feeds: Feeds, runs: int = 50, clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the smallest time of ``runs`` runs, without copies of inputs and outputs.

        Args:
            clock: ``time.thread_time`` counts the time of this thread alone, which is all of it with one thread.

        Raises:
            SamplesError, ModelError: as :meth:`run`.
        """
        self._set(feeds)
        self._invoke()
        times = []
        for _ in range(runs):
            started = clock()
            self._invoke()
            times.append(clock() - started)
        return 1000 * min(times)

    def delegation(self) -> "Delegation":
        """Return which operations XNNPACK took."""
        nodes = self._interpreter._get_ops_details()
        own = [node for node in nodes if node["op_name"] != DELEGATE]
        writers = {int(output): index for index, node in enumerate(own) for output in node["outputs"]}
        taken: set[int] = set()
        for delegate in (node for node in nodes if node["op_name"] == DELEGATE):
            outside = {int(tensor) for tensor in delegate["inputs"]}
            waiting = [int(tensor) for tensor in delegate["outputs"]]
            while waiting:
                tensor = waiting.pop()
                writer = writers.get(tensor)
                if writer is None or writer in taken or tensor in outside:
                    continue
                taken.add(writer)
                waiting += [int(source) for source in own[writer]["inputs"] if int(source) >= 0]
        left = Counter(str(node["op_name"]) for index, node in enumerate(own) if index not in taken)
        return Delegation(len(taken), len(own), dict(sorted(left.items())))

    def _set(self, feeds: Feeds) -> None:
        for port in self.inputs:
            if port.name not in feeds:
                raise SamplesError(f"{self.name}: nothing for input '{port.name}'; fed {', '.join(sorted(feeds))}")
            self._interpreter.set_tensor(port.index, port.stored(np.asarray(feeds[port.name])))

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as problem:
            raise ModelError(f"{self.name}: LiteRT fails on it ({first_line(problem)})") from None


def _content(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as problem:
        raise ModelError(f"{name}: cannot be read ({problem.strerror}); give the path of a .tflite file") from None


def _loaded(content: bytes, name: str, threads: int, xnnpack: bool) -> Any:
    interpreter_type, resolvers = interpreter_class()
    resolver = resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = interpreter_type(
            model_content=content, num_threads=threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as problem:
        raise ModelError(f"{name}: LiteRT cannot load it ({first_line(problem)})") from None
    return interpreter


def _described(content: bytes) -> tuple[dict[int, str], dict[str, str]]:
    """Return the names of the signature by tensor, and this package's entries of the metadata."""
    model = schema().Model.GetRootAs(content)
    names: dict[int, str] = {}
    if model.SignatureDefsLength():
        signature = model.SignatureDefs(0)
        entries = [signature.Inputs(index) for index in range(signature.InputsLength())]
        entries += [signature.Outputs(index) for index in range(signature.OutputsLength())]
        names = {int(entry.TensorIndex()): entry.Name().decode() for entry in entries}
    metadata = {}
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        name = entry.Name().decode()
        if name.startswith(OWN):
            metadata[name] = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
    return names, metadata


def _port(detail: Any, names: dict[int, str], orders: dict[str, list[int]]) -> Port:
    index = int(detail["index"])
    name = names.get(index, str(detail["name"]))
    shape = tuple(int(size) for size in detail["shape"])
    scale, zero_point = detail["quantization"]
    order = tuple(orders.get(name, range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"'{name}' has {len(shape)} axes, and not {list(order)}")
    return Port(name, index, shape, np.dtype(detail["dtype"]), float(scale), int(zero_point), order)
