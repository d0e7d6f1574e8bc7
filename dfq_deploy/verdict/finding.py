"""Findings and the verdict: what is wrong with a result, how bad it is, and the way out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dfq_deploy.evaluation.metrics import finite

__all__ = ["LEVELS", "Finding", "Level", "Verdict", "worst"]

Level: TypeAlias = Literal["OK", "CHECK", "BAD"]
"""``OK``: use it. ``CHECK``: it may be good; look, or measure it on real data. ``BAD``: it is not."""

LEVELS: tuple[Level, ...] = ("OK", "CHECK", "BAD")
"""From the best to the worst."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        code: a short, stable name, e.g. ``samples-constant``; scripts may rely on it.
        level: what it means for the result.
        message: one sentence with the figures.
        remedy: the way out: a sentence, or a command to paste; empty where none is needed.
        figures: the numbers behind the sentence.
        options: of ``dfq-deploy calibrate``, which follow the remedy; empty where no option is known to help.
    """

    code: str
    level: Level
    message: str
    remedy: str = ""
    figures: Mapping[str, float] | None = None
    options: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report holds it; an infinite figure is null."""
        return {
            "code": self.code,
            "level": self.level,
            "message": self.message,
            "remedy": self.remedy,
            "figures": {name: finite(figure) for name, figure in (self.figures or {}).items()},
        }


@dataclass(frozen=True)
class Verdict:
    """The last word on a quantized model.

    Args:
        status: the worst level of the findings.
        reason: the sentence that decides it.
        command: one command to paste next; empty where there is nothing to do.
        findings: everything that was looked at, the worst first.
    """

    status: Level
    reason: str
    command: str = ""
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report and ``--json`` hold it."""
        return {
            "status": self.status,
            "reason": self.reason,
            "command": self.command,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        """The last line on a terminal."""
        return f"{self.status}: {self.reason}" + (f"; next: {self.command}" if self.command else "")


def worst(findings: "tuple[Finding, ...] | list[Finding]") -> Level:
    """The worst level among ``findings``; ``OK`` where there are none."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="OK")
