"""Run a .tflite file: compare it with ONNX Runtime on the QDQ file, time it, count what XNNPACK takes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dfq_deploy.evaluation.metrics import ScoreTally
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.inputs import Feeds, make_feeds
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.litert.interpreter import Delegation, LiteRtModel
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["Trial", "try_file"]


@dataclass(frozen=True)
class Trial:
    """What a .tflite file does on this machine.

    Args:
        samples: number of samples that were compared.
        snr: signal to noise of each output against ONNX Runtime in dB, by name; infinite if they are equal.
        agreement: percent of samples with the same class; None if the output has no class scores.
        milliseconds: smallest time of a run.
        delegation: the operations that XNNPACK takes.
    """

    samples: int
    milliseconds: float
    delegation: Delegation
    threads: int = 1
    snr: dict[str, float] = field(default_factory=dict)
    agreement: float | None = None

    def sentences(self) -> tuple[str, ...]:
        """Return the result as sentences."""
        shown = (
            f"LiteRT on this CPU: {self.milliseconds:.3g} ms ({self.threads} thread{'s'[: self.threads > 1]}), "
            f"{self.delegation}"
        )
        if not self.samples:
            return (shown,)
        outputs = ", ".join(f"'{name}' {value:.1f} dB" for name, value in self.snr.items())
        same = "" if self.agreement is None else f", the same class first in {self.agreement:.1f} %"
        compared = f"LiteRT against ONNX Runtime on the same encodings, {self.samples} samples: {outputs}{same}"
        return (compared, shown)


def try_file(
    path: Path, source: Path | None, samples: Samples | None, *, threads: int = 1, progress: Progress = SILENT
) -> Trial:
    """Run the .tflite file at ``path``.

    Args:
        source: the QDQ file from which it was written, which ONNX Runtime runs for the comparison; None compares
            nothing.
        samples: what both run on; None times on zeros.

    Raises:
        PluginError: ``ai-edge-litert`` is not installed.
        ModelError, SamplesError: one of them cannot run.
    """
    model = LiteRtModel(path, threads=threads)
    if source is None or samples is None:
        feeds = {port.name: np.zeros(port.shape, port.dtype).transpose(np.argsort(port.order)) for port in model.inputs}
        return _timed(model, feeds, threads)
    runner = Runner(source)
    size = runner.batch or 1
    tallies = {port.name: OutputTally() for port in model.outputs}
    scores, scored = ScoreTally(), runner.scores()
    progress.start("try the .tflite file", len(samples))
    for start in range(0, len(samples), size):
        part = samples.part(np.arange(start, start + size) % len(samples))
        expected = dict(zip(runner.output_names, runner.feed(part), strict=True))
        outputs = model.run(make_feeds(runner.ports, part.images, part.extra))
        rows = min(size, len(samples) - start)
        for name, tally in tallies.items():
            whole = expected[name].ndim == 0 or len(expected[name]) != size
            pair = (expected[name], outputs[name]) if whole else (expected[name][:rows], outputs[name][:rows])
            tally.add(*pair)
            if name == scored and pair[0].ndim == 2 and not whole:
                scores.add(*pair, None)
        progress.advance(rows)
    part = samples.part(np.arange(size) % len(samples))
    timed = _timed(model, make_feeds(runner.ports, part.images, part.extra), threads)
    return Trial(
        len(samples),
        timed.milliseconds,
        timed.delegation,
        threads,
        {name: tally.distance(name).snr for name, tally in tallies.items()},
        scores.scores().agreement if scores.same else None,
    )


def _timed(model: LiteRtModel, feeds: Feeds, threads: int) -> Trial:
    return Trial(0, model.milliseconds(feeds), model.delegation(), threads)
