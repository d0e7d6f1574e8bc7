"""Progress reporting for long operations."""

import logging
import time
from typing import Protocol

__all__ = ["SILENT", "Clock", "Progress", "Silent"]

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Displays the progress of one task at a time."""

    def start(self, task: str, total: int) -> None:
        """Begin ``task`` with ``total`` steps; the previous task is finished."""
        ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Report ``steps`` finished steps; ``figures`` are the current values to display."""
        ...


class Silent(Progress):
    """Displays nothing."""

    def start(self, task: str, total: int) -> None:
        """Display nothing."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Display nothing."""


SILENT = Silent()


class Clock:
    """Measures the duration of each step in seconds."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """End ``step`` and begin the next one."""
        now = time.perf_counter()
        self.seconds[step] = round(now - self._last, 3)
        logger.info("%s: %.1f s", step, self.seconds[step])
        self._last = now
