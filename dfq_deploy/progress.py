"""Progress reporting for long operations."""

import logging
import time
from typing import Protocol

__all__ = ["SILENT", "Clock", "Progress", "Silent"]

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """A display of one task at a time."""

    def start(self, task: str, total: int) -> None:
        """Begin ``task``, which takes ``total`` steps; the task before it is finished."""
        ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        """``steps`` more are done; ``figures`` are the numbers that matter now."""
        ...


class Silent(Progress):
    """Shows nothing."""

    def start(self, task: str, total: int) -> None:
        """Show nothing."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Show nothing."""


SILENT = Silent()


class Clock:
    """Seconds that each step took."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """``step`` ends now; the next one begins."""
        now = time.perf_counter()
        self.seconds[step] = round(now - self._last, 3)
        logger.info("%s: %.1f s", step, self.seconds[step])
        self._last = now
