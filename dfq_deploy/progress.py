"""How long work tells where it stands. The library is silent unless it is handed a display."""

from typing import Protocol

__all__ = ["SILENT", "Progress", "Silent"]


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
