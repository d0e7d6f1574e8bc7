"""Try one remedy after another until the floor or a limit is reached."""

import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.latency import EQUAL
from dfq_deploy.pipeline.remedies.attempts import NO_INTEGERS, Bench, Measured, OutOfTime, with_calibrated
from dfq_deploy.pipeline.remedies.floor import FASTER, PERCENT, Limits
from dfq_deploy.pipeline.remedies.measures import REMEDIES, SUREST, Result, Trial, Trials
from dfq_deploy.pipeline.remedies.steps import Remedies, RemedyStep

__all__ = ["Improved", "improve"]

logger = logging.getLogger(__name__)

ENOUGH = 8
"""Attempts that there is to be time for, or the surest remedy comes first."""

TIME_IS_UP = "the time was up"

LEAST_GAIN = {PERCENT: 0.1, "dB": 0.3}
"""Points or decibels that a remedy has to gain to be kept; less is chance."""


@dataclass(frozen=True, eq=False)
class Improved:
    """The best result, and the way to it.

    Args:
        best: with the setting that made it.
        remedies: for the report.
    """

    best: Measured
    remedies: Remedies


def improve(bench: Bench, first: Measured, limits: Limits, taken: float, *, start: Measured | None = None) -> Improved:
    """Try remedies for ``first`` until it meets the floor (:meth:`~dfq_deploy.pipeline.remedies.floor.Floor.is_met`).

    Nothing is tried where it does already. A remedy is kept where it gains (:data:`LEAST_GAIN`) and the result is no
    slower than allowed; while the floor is not reached, what is clearly faster than float is allowed by default, and
    where it is reached, nothing that becomes slower than float. An attempt begins only where the last one would still
    fit into the time, and ends with it; one that learns is not begun where the floor is reached.

    Args:
        first: what slowdown and size are compared with.
        taken: seconds that the calibration took so far.
        start: what earlier attempts made of ``first``, to go on from.

    Raises:
        OptionError: the floor is none for this model.
    """
    search = _Search(bench, first, start or first, limits, limits.seconds(taken))
    while not search.stopped and (trial := search.next_trial()) is not None:
        search.attempt(trial)
    return Improved(search.best, search.remedies())


class _Search:
    """The best result so far, and what was tried."""

    def __init__(self, bench: Bench, first: Measured, start: Measured, limits: Limits, seconds: float) -> None:
        self.first, self.best = first, start
        self.limits, self.seconds = limits, seconds
        self.started = time.perf_counter()
        self.bench = replace(bench, ends=self.started + seconds)
        self.steps: list[RemedyStep] = []
        self.longest = 0.0
        self.hurried = False
        self.stopped = "floor" if limits.floor.is_met(start.agreement) else ""
        self.result: Result | None = None
        self.trials = self._all()

    def _all(self) -> Trials:
        waiting = list(REMEDIES)
        while waiting:
            hurries = SUREST in waiting and self.longest * ENOUGH > self.bench.left()
            remedy = waiting.pop(waiting.index(SUREST) if hurries else 0)
            with suppress(DfqError):  # a remedy that cannot be applied to this graph has nothing to try
                yield from remedy(self.bench, self.best, self.limits.floor)

    def next_trial(self) -> Trial | None:
        """What to try next; None, and the reason noted, where that is nothing."""
        if time.perf_counter() + self.longest > self.bench.ends:
            self.stopped = "max-time"
            return None
        try:
            trial = self.trials.send(self.result)
        except StopIteration:
            self.stopped = "max-time" if self.hurried else "exhausted"
            return None
        if trial.learns and self.limits.floor.is_reached(self.best.agreement):
            self.stopped = "floor"
            return None
        return trial

    def attempt(self, trial: Trial) -> None:
        """Try it, keep it where it gains, and note what came of it."""
        started = time.perf_counter()
        base = with_calibrated(self.best, {trial.mixes} - {""})
        before = self.limits.floor.figure(base.agreement)
        found, slowdown, reason = None, None, ""
        try:
            setting = trial.make()
            fitted = self.bench.fitted(setting)
            found = self.bench.measured(setting, fitted, base.sets, f"{len(self.steps) + 1}")
            slowdown, reason = self._judged(before, found)
        except OutOfTime as problem:
            reason, self.hurried = str(problem) or TIME_IS_UP, True
            self.stopped = "" if str(problem) else "max-time"
        except DfqError as problem:
            reason = f"it failed: {problem}"
        after = None if found is None else self.limits.floor.figure(found.agreement)
        added = None if found is None else found.size - self.first.size
        spent = time.perf_counter() - started
        step = RemedyStep(trial.name, trial.what, before, after, not reason, reason, slowdown, added, round(spent, 3))
        logger.info("remedy %s", step)
        self.steps.append(step)
        self.longest = max(self.longest, spent)
        too_much = slowdown is not None or reason == NO_INTEGERS
        self.result = "kept" if not reason else "too much" if too_much else "no gain"
        if found is not None and not reason:
            self.best = found
            self.stopped = "floor" if self.limits.floor.is_met(found.agreement) else ""

    def _judged(self, before: float, found: Measured) -> tuple[float | None, str]:
        """Its slowdown, where it was timed, and why it is not kept; empty where it is."""
        unit = self.limits.floor.unit(found.agreement)
        after = self.limits.floor.figure(found.agreement)
        if not (after - before >= LEAST_GAIN[unit] or (math.isinf(after) and after > before)):
            return None, "it gains nothing"
        if self.first.integer_layers and not found.integer_layers:
            return None, NO_INTEGERS
        timed = self.bench.slowdown(self.first, found)
        if timed is None:
            return None, ""
        slowdown, least = timed
        # Other work on the machine makes a ratio uncertain: what is dropped is slower beyond doubt.
        if least > self.limits.slowdown and (self._is_enough() or not self._is_fast(found)):
            return slowdown, f"it is slower than allowed (--max-slowdown {self.limits.slowdown:g})"
        if self._falls_behind(found):
            return slowdown, "it is slower than float, and the floor is reached without it"
        return slowdown, ""

    def _falls_behind(self, found: Measured) -> bool:
        """True where a result that is good enough would become slower than float for a margin."""
        if self.limits.max_slowdown is not None or not self.limits.floor.is_reached(self.best.agreement):
            return False
        before, after = self.bench.speed(self.best), self.bench.speed(found)
        return before is not None and after is not None and after.high < EQUAL[0] <= before.high

    def _is_enough(self) -> bool:
        """True where a slower result than the best so far is not worth its accuracy."""
        return self.limits.max_slowdown is not None or self.limits.floor.is_reached(self.best.agreement)

    def _is_fast(self, found: Measured) -> bool:
        """Clearly faster than float, as far as can be told here."""
        speed = self.bench.speed(found)
        return speed is not None and speed.ratio >= FASTER

    def remedies(self) -> Remedies:
        """What was tried, for the report."""
        floor, spent = self.limits.floor, time.perf_counter() - self.started
        reached = floor.is_reached(self.best.agreement)
        ends = {
            "floor": f"the floor ({floor}) is reached",
            "max-time": f"the time for remedies is up ({self.seconds:.0f} s; --max-time)",
            "exhausted": f"the floor ({floor}) is not reached, and there is no more to try",
        }
        return Remedies(
            floor=str(floor),
            unit=floor.unit(self.best.agreement),
            first=floor.figure(self.first.agreement),
            last=floor.figure(self.best.agreement),
            reached=reached,
            stopped=self.stopped,
            said=ends[self.stopped],
            max_time=round(self.seconds, 3),
            max_slowdown=self.limits.slowdown,
            seconds=round(spent, 3),
            steps=tuple(self.steps),
        )
