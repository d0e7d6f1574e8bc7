"""What was tried: each step's gain and cost, for the report."""

from dataclasses import asdict, dataclass
from typing import Any

from dfq_deploy.evaluation.metrics import finite

__all__ = ["Remedies", "RemedyStep"]


@dataclass(frozen=True)
class RemedyStep:
    """One remedy that was tried.

    Args:
        name: stable: ``headroom``, ``known-ranges``, ``equalize``, ``depthwise``, ``channels``, ``samples``,
            ``16-bit``, ``dynamic``, ``keep-float``, ``scaled-ranges``, ``reconstruct``, ``faster``.
        what: what was changed, for people.
        before, after: the figure without and with it, in the unit of :class:`Remedies`; ``after`` is None where it
            could not be measured.
        kept: whether the result has it.
        reason: why not; empty where it is kept.
        slowdown: its latency as a multiple of the first result's; None where it was not timed.
        added_bytes: what it adds to the first result's file.
        seconds: that trying it took.
    """

    name: str
    what: str
    before: float
    after: float | None
    kept: bool
    reason: str
    slowdown: float | None
    added_bytes: int | None
    seconds: float

    @property
    def gain(self) -> float | None:
        """By how much the figure rose; None where it could not be measured."""
        if self.after is None or self.after == self.before:
            return None if self.after is None else 0.0
        return self.after - self.before

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; infinite figures are null, and those of what could not be measured."""
        figures = {name: None if value is None else finite(value) for name, value in self._figures().items()}
        return {**asdict(self), **figures, "measured": self.after is not None}

    def _figures(self) -> dict[str, float | None]:
        return {"before": self.before, "after": self.after, "gain": self.gain}


@dataclass(frozen=True)
class Remedies:
    """The way from the first result to the last.

    Args:
        floor: as ``--floor`` has it.
        unit: of the figures: ``%`` of real inputs that get the same class, predicted, or ``dB`` at the worst output.
        first, last: the figure of the first result and of the one that was written; the latter on the inputs that
            judge in the end.
        reached: whether that reaches the floor.
        stopped: why no more was tried: ``floor``, ``max-time``, ``exhausted`` or ``unmeasured``.
        said: the same as a sentence.
        max_time, max_slowdown: the limits.
        seconds: that all took.
        steps: in the order in which they were tried.
    """

    floor: str
    unit: str
    first: float
    last: float
    reached: bool
    stopped: str
    said: str
    max_time: float
    max_slowdown: float
    seconds: float
    steps: tuple[RemedyStep, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report holds it."""
        ends = {"first": finite(self.first), "last": finite(self.last)}
        return {**vars(self), **ends, "steps": [step.to_json() for step in self.steps]}
