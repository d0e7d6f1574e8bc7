"""Limit the time that a file may take of this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.bounds import bounds

__all__ = ["check_time", "timed"]

_current: ContextVar[tuple[str, float] | None] = ContextVar("clock", default=None)


@contextmanager
def timed(place: str) -> Iterator[None]:
    """Let the block take the seconds in :class:`.Bounds`, at every :func:`check_time` in it.

    Time is that of the processor in this thread: a busy machine makes no file slower. An inner block runs on the clock
    of the outer one.

    Args:
        place: what errors call the file.
    """
    if _current.get() is not None:
        yield
        return
    token = _current.set((place, time.thread_time()))
    try:
        yield
    finally:
        _current.reset(token)


def check_time(stage: str) -> None:
    """Compare the clock with the limit; outside of :func:`timed` there is none.

    Raises:
        ModelError: the limit is exceeded.
    """
    running = _current.get()
    if running is None:
        return
    (place, begun), seconds = running, bounds().seconds
    if time.thread_time() - begun > seconds:
        raise ModelError(f"{place}: {stage} takes more than {seconds:g} s; raise --max-seconds if that is meant")
