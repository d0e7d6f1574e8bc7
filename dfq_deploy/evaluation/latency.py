"""Time two models in turn in one process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["EQUAL", "Latency", "Speed", "latencies", "speed_of", "speed_of_times"]

BATCHES = (1, 8)

WARM_UP = 3

BUDGET = 20.0
"""Seconds for one batch size; slow models get fewer runs, at least :data:`FEWEST`."""

FEWEST = 5

BLOCKS = 12
"""The median lies between the second smallest and the second largest of twelve values in all but 26 of 4096 cases."""

FULL = 3
"""Pairs of runs that each block needs before its smallest times are compared."""

CLEAR, CLEAR_FULL = (0.8, 1.25), 1
"""So many pairs do where the whole interval of the ratio lies outside these bounds."""

MOST = 70
"""Largest number of pairs of runs in each block: more add no information."""

PATIENCE = 3
"""Factor by which an undecided measurement exceeds the requested time."""

EQUAL = (0.95, 1.05)
"""Ratios float time / quantized time between which a model counts as about as fast as float."""


@dataclass(frozen=True)
class Latency:
    """Median times for one batch size.

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
    """Time both models at batch 1 and 8, or at the fixed batch of a model.

    Args:
        reference, quantized: opened with ``quiet_threads``; otherwise the spinning threads of one delay the other.
        samples: repeated if a batch needs more.
        runs: pairs of runs.

    Returns:
        one entry for each batch size that both models take; empty if they are fixed to different ones.
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


@dataclass(frozen=True)
class Speed:
    """Speed of two models, from a short measurement that is robust against other work on the machine.

    Args:
        batch: samples in one run.
        float_ms, quantized_ms: the smallest times, in milliseconds a run on one thread.
        ratio: float time / quantized time, above 1 where the quantized model is faster.
        low, high: the second smallest and the second largest ratio of :data:`BLOCKS` blocks of interleaved runs, each
            from the smallest times of its block; they contain the median with 99 % probability, and are widened to
            contain ``ratio``. The smallest and the largest if there were not runs for all blocks.
        pairs: runs of each model.
    """

    batch: int
    float_ms: float
    quantized_ms: float
    ratio: float
    low: float
    high: float
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {name: round(value, 4) for name, value in vars(self).items()}


def speed_of(reference: Runner, quantized: Runner, samples: Samples, seconds: float = 1.5) -> Speed | None:
    """Time both models in turn, at batch 1 or their fixed batch; None if their fixed batches differ.

    Args:
        reference, quantized: opened with ``quiet_threads`` and one thread.
        seconds: limit if the interval decides by then which model is faster, else :data:`PATIENCE` times as long. Slow
            models are run 5 times each in any case.
    """
    pair = (reference, quantized)
    fixed = {runner.batch for runner in pair if runner.batch is not None}
    if len(fixed) > 1:
        return None
    batch = fixed.pop() if fixed else 1
    feed = samples.part(np.arange(batch) % len(samples))
    for runner in pair:
        _once(runner, feed)
    times: list[list[float]] = []
    started = time.perf_counter()
    while not _is_enough(times, time.perf_counter() - started, seconds):
        # Either model runs first in half of the runs of each block: what runs second finds warmer caches.
        order = (0, 1) if len(times) // BLOCKS % 2 else (1, 0)
        taken = {index: _once(pair[index], feed) for index in order}
        times.append([taken[0], taken[1]])
    return speed_of_times(batch, times)


def speed_of_times(batch: int, times: Sequence[Sequence[float]]) -> Speed:
    """The speed of two models from pairs of seconds, those of the float model first."""
    ratio, low, high = _interval(times)
    float_ms, quantized_ms = 1000 * np.min(times, axis=0)
    return Speed(batch, float(float_ms), float(quantized_ms), ratio, low, high, len(times))


def _is_enough(times: Sequence[Sequence[float]], passed: float, seconds: float) -> bool:
    """True if the times decide which model is faster, or the limits are reached."""
    if len(times) < FEWEST or len(times) >= BLOCKS * MOST:
        return len(times) >= FEWEST
    if passed > PATIENCE * seconds:
        return True
    if (passed < seconds and len(times) < BLOCKS * CLEAR_FULL) or len(times) % BLOCKS:
        return False
    _, low, high = _interval(times)
    bounds = EQUAL if passed >= seconds or len(times) >= BLOCKS * FULL else CLEAR
    return high < bounds[0] or low > bounds[1]


def _interval(times: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The ratio and its interval, from pairs of times."""
    seconds = np.asarray(times)
    least = np.asarray([seconds[block::BLOCKS].min(axis=0) for block in range(min(BLOCKS, len(times)))])
    ratios = np.sort(least[:, 0] / least[:, 1])
    inner = 1 if len(ratios) == BLOCKS else 0
    ratio = float(np.divide(*seconds.min(axis=0)))
    return ratio, min(ratio, float(ratios[inner])), max(ratio, float(ratios[-1 - inner]))
