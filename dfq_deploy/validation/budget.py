"""What ``--max-memory`` leaves to the steps, and sentences on what they changed for it.

Each step has a size of its own, the same on all machines, so that the same seed gives the same result. A budget below
:data:`ENOUGH` takes a share of itself instead, and the report says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dfq_deploy.validation.bounds import bounds

__all__ = ["ENOUGH", "allowance", "budget", "in_megabytes", "note", "noted"]

ENOUGH = 2**31
"""Bytes of ``--max-memory`` from which on it changes no step: half of the memory of a machine of 4 GiB."""

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def allowance(most: int) -> int:
    """The bytes that a step may take which takes ``most`` where memory suffices: the same share of a smaller budget."""
    return max(1, most * budget() // ENOUGH)


def budget() -> int:
    """``--max-memory`` in bytes, as far as it changes a step: at most :data:`ENOUGH`."""
    return min(bounds().memory, ENOUGH)


def in_megabytes(size: int) -> str:
    """A size in bytes for a reader, e.g. ``64 MB``."""
    return f"{size / 1e6:.3g} MB"


def note(sentence: str) -> None:
    """Keep a sentence for the report, where one is made."""
    notes = _notes.get()
    if notes is not None and sentence not in notes:
        notes.append(sentence)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Context manager: the sentences that :func:`note` keeps within the block."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
