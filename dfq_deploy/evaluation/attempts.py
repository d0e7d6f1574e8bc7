"""Run checks that stand alone: one that fails leaves a sentence, and the others go on."""

import logging
from collections.abc import Callable
from typing import TypeVar

from dfq_deploy.errors import DfqError, first_line, is_out_of_memory

__all__ = ["Attempts"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LONGEST = 300
"""Characters of an exception's message that a sentence quotes."""


class Attempts:
    """The checks of one file, and what kept some of them from a result."""

    def __init__(self) -> None:
        self._failed: dict[str, list[str]] = {}

    def run(self, subject: str, check: Callable[[], Result]) -> Result | None:
        """What ``check`` returns; None where it raises, which :attr:`sentences` says then.

        Args:
            subject: what is checked, as ``the biases``.
        """
        try:
            return check()
        except Exception as problem:  # ONNX Runtime's exceptions have no base class, and no check may end the others
            logger.info("the check of %s failed", subject, exc_info=problem)
            self.leave_out(subject, _reason(problem))
            return None

    def leave_out(self, subject: str, reason: str) -> None:
        """Say that ``subject`` is not checked."""
        self._failed.setdefault(reason, []).append(subject)

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence on each reason why something was not checked."""
        return tuple(f"{_listed(subjects)} not checked: {reason}" for reason, subjects in self._failed.items())


def _reason(problem: Exception) -> str:
    if is_out_of_memory(problem):
        return f"not enough memory ({type(problem).__name__})"
    words = first_line(problem)[:LONGEST]
    if isinstance(problem, DfqError) or words == type(problem).__name__:
        return words
    return f"{type(problem).__name__}: {words}"


def _listed(subjects: list[str]) -> str:
    if len(subjects) == 1:
        return f"{subjects[0]} of the quantized file were"
    return f"{', '.join(subjects[:-1])} and {subjects[-1]} of the quantized file were"
