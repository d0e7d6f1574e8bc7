"""Run a TensorRT engine on samples: compare it with ONNX Runtime, and time it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError, TargetError
from dfq_deploy.evaluation.metrics import ScoreTally
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.inputs import Feeds, main_input, make_feeds
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.tensorrt.package import log_of, tensorrt_package
from dfq_deploy.samples.samples import Samples

__all__ = ["Engine", "Trial", "try_engine"]

WARM_UP, RUNS = 10, 100

DEVICE = "cuda"
"""The device of an engine's tensors, by torch's name: the current CUDA device."""


class Engine:
    """A serialized engine, ready to run on the current CUDA device.

    Args:
        plan: the serialized engine, built on the same kind of GPU with the same version of TensorRT.

    Raises:
        PluginError: TensorRT's package cannot be imported.
        TargetError: TensorRT cannot load the engine.
    """

    def __init__(self, plan: bytes) -> None:
        self._trt = tensorrt_package()
        self._log = log_of(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise TargetError(f"TensorRT {self._trt.__version__} cannot load the engine: {self._reason()}")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = self._trt.TensorIOMode.INPUT
        self.inputs = tuple(name for name in names if self._engine.get_tensor_mode(name) == mode)
        self.outputs = tuple(name for name in names if name not in self.inputs)

    def batches(self, name: str) -> tuple[int, int]:
        """Return the smallest and the largest batch size of input ``name``."""
        fixed = self._engine.get_tensor_shape(name)[0]
        if fixed >= 0:
            return int(fixed), int(fixed)
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return int(smallest[0]), int(largest[0])

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute the outputs for one batch.

        Raises:
            SamplesError: an input is missing, or its shape does not fit.
            TargetError: the engine fails.
        """
        tensors = self._bind(feeds)
        self._launch(1)
        return {name: tensors[name].cpu().numpy() for name in self.outputs}

    def milliseconds(self, feeds: Feeds) -> float:
        """Return the median time of a run on the GPU, without copies to and from the device.

        Raises:
            SamplesError, TargetError: as :meth:`run`.
        """
        tensors = self._bind(feeds)
        self._launch(WARM_UP)
        times = self._launch(RUNS)
        del tensors
        return float(np.median(times))

    def _bind(self, feeds: Feeds) -> dict[str, Any]:
        """Create device tensors for all inputs and outputs, and set their addresses; they must outlive the run."""
        import torch

        tensors: dict[str, Any] = {}
        for name in self.inputs:
            if name not in feeds:
                raise SamplesError(f"samples: nothing for input '{name}'; fed {', '.join(sorted(feeds)) or 'nothing'}")
            array = np.require(feeds[name], requirements=["C", "W"])
            if not self._context.set_input_shape(name, array.shape):
                raise SamplesError(f"samples: the engine does not support shape {array.shape} for input '{name}'")
            tensors[name] = torch.from_numpy(array).to(DEVICE)
        for name in self.outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            if any(dim < 0 for dim in shape):
                raise TargetError(f"output '{name}': its shape depends on values, which is not supported here")
            dtype = getattr(torch, self._dtype(name))
            tensors[name] = torch.empty(shape, dtype=dtype, device=DEVICE)
        for name, tensor in tensors.items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        return tensors

    def _dtype(self, name: str) -> str:
        kind = str(self._engine.get_tensor_dtype(name).name)
        names = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
        return names.get(kind, kind.lower())

    def _launch(self, runs: int) -> list[float]:
        """Run ``runs`` times on a separate stream (TensorRT synchronizes more on the default one); ms of each."""
        import torch

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        times = []
        with torch.cuda.stream(stream):
            for _ in range(runs):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                begin.record()
                if not self._context.execute_async_v3(stream.cuda_stream):
                    raise TargetError(f"the engine fails to run: {self._reason()}")
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end))
        return times

    def _reason(self) -> str:
        return self._log.errors[0] if self._log.errors else "it gives no reason"


@dataclass(frozen=True)
class Trial:
    """Comparison of an engine with ONNX Runtime on the file from which it was built.

    Args:
        samples: number of samples.
        snr: signal to noise of each output in dB, by name.
        agreement: percent of samples with the same class; None if the output has no class scores.
        latency: batch size -> median milliseconds on the GPU.
    """

    samples: int
    snr: dict[str, float]
    agreement: float | None
    latency: dict[int, float]

    def sentences(self) -> tuple[str, ...]:
        """Return the result as sentences."""
        outputs = ", ".join(f"'{name}' {value:.1f} dB" for name, value in self.snr.items())
        same = "" if self.agreement is None else f", the same class first in {self.agreement:.1f} %"
        times = ", ".join(f"batch {batch} {ms:.3f} ms" for batch, ms in self.latency.items())
        return (
            f"the engine against ONNX Runtime on {self.samples} samples: {outputs}{same}",
            f"the engine's latency on this GPU: {times}",
        )


def try_engine(engine: Engine, source: Path, samples: Samples, progress: Progress = SILENT) -> Trial:
    """Compare ``engine`` with ONNX Runtime on its QDQ file ``source``, on ``samples``.

    Raises:
        SamplesError, TargetError, ModelError: one of them cannot run.
    """
    runner = Runner(source)
    smallest, largest = engine.batches(main_input(runner.ports).name)
    tallies = {name: OutputTally() for name in engine.outputs}
    scores, scored = ScoreTally(), runner.scores()
    progress.start("try the engine", len(samples))
    for start in range(0, len(samples), largest):
        rows = min(largest, len(samples) - start)
        # A fixed batch is padded; the padding is not compared.
        part = samples.part(np.arange(start, start + max(rows, smallest)) % len(samples))
        feeds = make_feeds(runner.ports, part.images, part.extra)
        expected = dict(zip(runner.output_names, runner.feed(part), strict=True))
        outputs = engine.run(feeds)
        for name, tally in tallies.items():
            whole = expected[name].ndim == 0 or len(expected[name]) != len(part)
            pair = (expected[name], outputs[name]) if whole else (expected[name][:rows], outputs[name][:rows])
            tally.add(*pair)
            if name == scored and pair[0].ndim == 2 and not whole:
                scores.add(*pair, None)
        progress.advance(rows)
    batches = {batch: samples.part(np.arange(batch) % len(samples)) for batch in dict.fromkeys((smallest, largest))}
    return Trial(
        len(samples),
        {name: tally.distance(name).snr for name, tally in tallies.items()},
        scores.scores().agreement if scores.same else None,
        {
            batch: engine.milliseconds(make_feeds(runner.ports, part.images, part.extra))
            for batch, part in batches.items()
        },
    )
