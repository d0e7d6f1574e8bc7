"""Time two models in turn in one process."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["Latency", "latencies"]

BATCHES = (1, 8)

WARM_UP = 3

BUDGET = 20.0
"""Seconds for one batch size; slow models get fewer runs, at least :data:`FEWEST`."""

FEWEST = 5


@dataclass(frozen=True)
class Latency:
    """Times for one batch size.

    Args:
        batch: samples in one run.
        float_ms, quantized_ms: medians, in milliseconds a run.
        ratio: median over the pairs of runs of float time / quantized time: above 1 the quantized model is faster.
        low, high: the quartiles of that ratio.
        runs: number of pairs.
    """

    batch: int
    float_ms: float
    quantized_ms: float
    ratio: float
    low: float
    high: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {
            "batch": self.batch,
            "float_ms": round(self.float_ms, 4),
            "quantized_ms": round(self.quantized_ms, 4),
            "ratio": round(self.ratio, 4),
            "ratio_quartiles": [round(self.low, 4), round(self.high, 4)],
            "runs": self.runs,
        }


def latencies(
    reference: Runner,
    quantized: Runner,
    samples: Samples,
    *,
    runs: int = 30,
    progress: Progress = SILENT,
) -> tuple[Latency, ...]:
    """Time both models at batch 1 and 8, or at the one batch that a model is fixed to.

    Args:
        reference, quantized: opened with ``quiet_threads``; otherwise the spinning threads of one hold up the other.
        samples: repeated where a batch needs more.
        runs: pairs of runs.

    Returns:
        one entry for each batch size that both models take; empty where they are fixed to different ones.
    """
    pair = (reference, quantized)
    fixed = sorted({runner.batch for runner in pair if runner.batch is not None})
    if len(fixed) > 1:
        return ()
    return tuple(_time(pair, samples, batch, runs, progress) for batch in (fixed or BATCHES))


def _time(pair: tuple[Runner, Runner], samples: Samples, batch: int, runs: int, progress: Progress) -> Latency:
    feed = samples.part(np.arange(batch) % len(samples))
    progress.start(f"latency at batch {batch}", runs)
    for runner in pair * WARM_UP:
        _once(runner, feed)
    seconds: list[list[float]] = []
    started = time.perf_counter()
    while len(seconds) < runs and (len(seconds) < FEWEST or time.perf_counter() - started < BUDGET):
        seconds.append([_once(runner, feed) for runner in pair])
        progress.advance()
    times = np.asarray(seconds) * 1000
    low, ratio, high = np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    slow, fast = np.median(times, axis=0)
    return Latency(batch, float(slow), float(fast), float(ratio), float(low), float(high), len(seconds))


def _once(runner: Runner, feed: Samples) -> float:
    started = time.perf_counter()
    runner.feed(feed)
    return time.perf_counter() - started
