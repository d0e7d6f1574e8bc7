"""The floor that a calibration works towards, and the limits of the work."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import onnx_ir as ir

from dfq_deploy.errors import OptionError
from dfq_deploy.graph.query import score_count
from dfq_deploy.verdict.agreement.measure import Agreement
from dfq_deploy.verdict.agreement.outputs import worst_noise
from dfq_deploy.verdict.detector import detector_decibels
from dfq_deploy.verdict.judge import SNR, agreement_finding, deciding_kind
from dfq_deploy.verdict.task import task_decibels

__all__ = ["FASTER", "MARGIN", "PERCENT", "Floor", "Limits", "limits_of"]

Kind: TypeAlias = Literal["ok", "agreement", "snr", "none"]

LEAST_TIME = 60.0
"""Seconds that remedies may take however short the calibration was."""

SHARE = 0.5
"""Part of the calibration's time that they may take: learned rounding takes minutes, and each attempt repeats it."""

PERCENT, DECIBELS = "%", "dB"

MARGIN = 5.0
"""Decibels above ``ok`` that remedies aim at: the few inputs that judge are not those of the user, whose values may go
beyond the ranges. Ranges that are computed at run time need none."""

SURE = 95.0
"""Predicted percentage of unchanged answers that remedies aim at where ``ok`` goes by it, from 90 on: its interval is
wide where few inputs decide."""

HELD = 0.98
"""Mean overlap of boxes that remedies aim at, where an output of the detector has less than the decibels of ``ok`` with
:data:`MARGIN`: 0.9 is ``OK``, and a box of 0.9 is not found where an overlap of 0.95 is asked for."""

SLOWER = 1.15
"""Largest latency of a result, as a multiple of the first result's, where nothing else is asked for."""

FASTER = 1.1
"""A result that is of no use otherwise may be slower than that, if it stays so many times as fast as float."""


@dataclass(frozen=True)
class Floor:
    """What a result has to reach.

    Args:
        kind: ``ok``: what the verdict calls OK; ``agreement``: percent of real inputs that get the same class,
            predicted; ``snr``: dB at the worst output; ``none``: anything will do.
        value: of ``agreement`` and ``snr``.
        margin: decibels above ``ok`` that are aimed at.
    """

    kind: Kind = "ok"
    value: float = 0.0
    margin: float = MARGIN

    @classmethod
    def parse(cls, text: str) -> "Floor":
        """Read ``ok``, ``none``, ``agreement=99`` or ``snr=20``.

        Raises:
            OptionError: it is none of them.
        """
        name, _, number = text.strip().lower().partition("=")
        if name in ("ok", "none") and not number:
            return cls("ok" if name == "ok" else "none")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name == "agreement" and 0 < value <= 100:
            return cls("agreement", value)
        if name == "snr" and math.isfinite(value):
            return cls("snr", value)
        raise OptionError(f"floor: '{text}' is no floor; give ok, none, agreement=99 (percent) or snr=20 (dB)")

    def __str__(self) -> str:
        return self.kind if self.kind in ("ok", "none") else f"{self.kind}={self.value:g}"

    def unit(self, agreement: Agreement) -> str:
        """``%`` or ``dB``: what :meth:`figure` is in."""
        by_class = self.kind != "snr" and agreement.predicted is not None
        return PERCENT if by_class else DECIBELS

    def figure(self, agreement: Agreement) -> float:
        """The figure that counts, of which more is better; see :meth:`unit`.

        In dB it is that of the worst output. Where ``ok`` goes by something else it is what that comes to: boxes and
        scores of a detector (:func:`dfq_deploy.verdict.detector.detector_decibels`), the figure of a stated task
        (:func:`dfq_deploy.verdict.task.task_decibels`).
        """
        if self.unit(agreement) == PERCENT and agreement.predicted is not None:
            return agreement.predicted.value
        kind = deciding_kind(agreement)
        if kind is None:
            return -math.inf
        head, task = kind.comparison.head, kind.comparison.task
        if self.kind != "snr" and head is not None:
            return detector_decibels(head)
        if self.kind != "snr" and task is not None:
            return task_decibels(task)
        noise = worst_noise(agreement) if head is None else None
        return kind.worst_output[1] if noise is None else noise.snr

    def check(self, model: ir.Model) -> None:
        """Refuse an agreement for a model without class scores.

        Raises:
            OptionError: says so.
        """
        if self.kind == "agreement" and score_count(model) is None:
            raise OptionError(f"floor: {self} needs class scores, and the model has none; give snr=20, say")

    def is_reached(self, agreement: Agreement) -> bool:
        """True where the result is good enough."""
        if self.kind == "none":
            return True
        if self.kind == "ok":
            return agreement_finding(agreement).level == "OK"
        expected = agreement.predicted
        if self.kind == "agreement":
            return expected is not None and expected.value >= self.value
        return self.figure(agreement) >= self.value

    def is_met(self, agreement: Agreement) -> bool:
        """True where there is nothing to do: it is reached, ``ok`` by :data:`MARGIN`, or to :data:`SURE` percent.

        Boxes of a detector are to overlap by :data:`HELD` too, or each output to have the decibels of that margin.
        """
        if not self.is_reached(agreement) or (self.kind == "ok" and not self._holds_boxes(agreement)):
            return False
        aim = self.aim if self.unit(agreement) == DECIBELS else SURE
        return self.kind != "ok" or self.figure(agreement) >= aim

    def _holds_boxes(self, agreement: Agreement) -> bool:
        kind = deciding_kind(agreement)
        overlap = None if kind is None or kind.comparison.head is None else kind.comparison.head.overlap
        return kind is None or overlap is None or overlap >= HELD or kind.worst_output[1] >= self.aim

    @property
    def without_margin(self) -> "Floor":
        """For ranges that are those of each input."""
        return replace(self, margin=0.0)

    @property
    def aim(self) -> float:
        """The figure in dB at which there is nothing more to do; infinite for an agreement."""
        return {"ok": SNR.good + self.margin, "snr": self.value}.get(self.kind, math.inf)


@dataclass(frozen=True)
class Limits:
    """How far the work may go.

    Args:
        floor: where it ends.
        max_time: seconds for all attempts; None: half of what the calibration took, at least 60.
        max_slowdown: how many times the latency of the first result a remedy may cost, where it can be timed here;
            None: 1.15 times, or as much as leaves a result below the floor clearly faster than float.

    Raises:
        OptionError: a limit is out of its range.
    """

    floor: Floor = Floor()
    max_time: float | None = None
    max_slowdown: float | None = None

    def __post_init__(self) -> None:
        if self.max_time is not None and not (_is_number(self.max_time) and self.max_time >= 0):
            raise OptionError(f"max_time={self.max_time!r} must be a number of seconds from 0 on")
        if self.max_slowdown is not None and not (_is_number(self.max_slowdown) and self.max_slowdown >= 1):
            raise OptionError(f"max_slowdown={self.max_slowdown!r} must be a factor from 1 on, e.g. 1.15")

    @property
    def slowdown(self) -> float:
        """How many times the latency of the first result any remedy may cost."""
        return SLOWER if self.max_slowdown is None else self.max_slowdown

    def seconds(self, taken: float) -> float:
        """What all attempts may take, where the calibration took ``taken`` seconds."""
        return max(LEAST_TIME, taken * SHARE) if self.max_time is None else self.max_time


def limits_of(keywords: Mapping[str, Any]) -> Limits:
    """What ``floor``, ``max_time`` and ``max_slowdown`` among ``keywords`` ask for.

    Raises:
        OptionError: one of them has a value that it cannot have.
    """
    floor = keywords.get("floor", "ok")
    given = {name: keywords[name] for name in ("max_time", "max_slowdown") if name in keywords}
    return Limits(Floor.parse(str(floor)), **given)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
