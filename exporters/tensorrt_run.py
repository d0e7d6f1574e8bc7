"""Running a TensorRT engine on samples: does it say what ONNX Runtime says of the same file, and how fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError, TargetError
from dfq_deploy.evaluation.metrics import OutputTally, ScoreTally
from dfq_deploy.graph.inputs import Feeds, main_input, make_feeds
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.tensorrt.package import log_of, tensorrt_package
from dfq_deploy.samples.samples import Samples

__all__ = ["Engine", "Trial", "try_engine"]

WARM_UP, RUNS = 10, 100

DEVICE = "cuda"
"""Where an engine looks for its tensors, as torch names it: the current device."""


class Engine:
    """A serialized engine, ready to run on the current CUDA device.

    Args:
        plan: as TensorRT wrote it, on this kind of GPU with this version.

    Raises:
        PluginError: TensorRT's package does not load.
        TargetError: TensorRT refuses the engine.
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
        """The smallest and the largest batch that input ``name`` takes."""
        fixed = self._engine.get_tensor_shape(name)[0]
        if fixed >= 0:
            return int(fixed), int(fixed)
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return int(smallest[0]), int(largest[0])

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """The outputs for one batch.

        Raises:
            SamplesError: an input is missing, or its shape does not fit.
            TargetError: the engine fails.
        """
        held = self._bind(feeds)
        self._launch(1)
        return {name: held[name].cpu().numpy() for name in self.outputs}

    def milliseconds(self, feeds: Feeds) -> float:
        """Median time of a run on the GPU, without the copies to it and from it.

        Raises:
            SamplesError, TargetError: as :meth:`run`.
        """
        held = self._bind(feeds)
        self._launch(WARM_UP)
        times = self._launch(RUNS)
        del held
        return float(np.median(times))

    def _bind(self, feeds: Feeds) -> dict[str, Any]:
        """Device tensors for all inputs and outputs, with their addresses set; they must outlive the run."""
        import torch

        held: dict[str, Any] = {}
        for name in self.inputs:
            if name not in feeds:
                raise SamplesError(f"samples: nothing for input '{name}'; fed {', '.join(sorted(feeds)) or 'nothing'}")
            array = np.require(feeds[name], requirements=["C", "W"])
            if not self._context.set_input_shape(name, array.shape):
                raise SamplesError(f"samples: the engine takes no input '{name}' of shape {array.shape}")
            held[name] = torch.from_numpy(array).to(DEVICE)
        for name in self.outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            if any(dim < 0 for dim in shape):
                raise TargetError(f"output '{name}': its shape depends on values, so the engine cannot be tried here")
            dtype = getattr(torch, self._dtype(name))
            held[name] = torch.empty(shape, dtype=dtype, device=DEVICE)
        for name, tensor in held.items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        return held

    def _dtype(self, name: str) -> str:
        kind = str(self._engine.get_tensor_dtype(name).name)
        names = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
        return names.get(kind, kind.lower())

    def _launch(self, runs: int) -> list[float]:
        """Run ``runs`` times on a stream of their own (TensorRT's default one waits more than needed); ms each."""
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
    """An engine against ONNX Runtime on the file that it was built from.

    Args:
        samples: how many.
        snr: signal to noise of each output in dB, by name.
        agreement: percent of samples in which both put the same class first; None where the output is no scores.
        latency: batch size -> median milliseconds on the GPU.
    """

    samples: int
    snr: dict[str, float]
    agreement: float | None
    latency: dict[int, float]

    def sentences(self) -> tuple[str, ...]:
        """For people."""
        outputs = ", ".join(f"'{name}' {value:.1f} dB" for name, value in self.snr.items())
        same = "" if self.agreement is None else f", the same class first in {self.agreement:.1f} %"
        times = ", ".join(f"batch {batch} {ms:.3f} ms" for batch, ms in self.latency.items())
        return (
            f"the engine against ONNX Runtime on {self.samples} samples: {outputs}{same}",
            f"the engine's latency on this GPU: {times}",
        )


def try_engine(engine: Engine, source: Path, samples: Samples, progress: Progress = SILENT) -> Trial:
    """Run ``engine`` and its QDQ file ``source`` on ``samples``.

    Raises:
        SamplesError, TargetError, ModelError: one of both cannot run.
    """
    runner = Runner(source)
    smallest, largest = engine.batches(main_input(runner.ports).name)
    tallies = {name: OutputTally() for name in engine.outputs}
    scores, scored = ScoreTally(), runner.scores()
    progress.start("try the engine", len(samples))
    for start in range(0, len(samples), largest):
        rows = min(largest, len(samples) - start)
        # A fixed batch is filled up; what belongs to the filling is left out.
        part = samples.part(np.arange(start, start + max(rows, smallest)) % len(samples))
        feeds = make_feeds(runner.ports, part.images, part.extra)
        expected = dict(zip(runner.output_names, runner.feed(part), strict=True))
        found = engine.run(feeds)
        for name, tally in tallies.items():
            whole = expected[name].ndim == 0 or len(expected[name]) != len(part)
            both = (expected[name], found[name]) if whole else (expected[name][:rows], found[name][:rows])
            tally.add(*both)
            if name == scored and both[0].ndim == 2 and not whole:
                scores.add(*both, None)
        progress.advance(rows)
    fed = {batch: samples.part(np.arange(batch) % len(samples)) for batch in dict.fromkeys((smallest, largest))}
    return Trial(
        len(samples),
        {name: tally.distance(name).snr for name, tally in tallies.items()},
        scores.scores().agreement if scores.same else None,
        {batch: engine.milliseconds(make_feeds(runner.ports, part.images, part.extra)) for batch, part in fed.items()},
    )
