"""Keep or remove the folder of an unfinished synthesis."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["forget", "resumable"]


@contextmanager
def resumable(unfinished: Path) -> Iterator[None]:
    """Keep ``unfinished`` where the block fails and there is something to go on from; an interrupt then says how."""
    try:
        yield
    except BaseException as problem:
        if not any(unfinished.glob("*.pt")):
            forget(unfinished)
        elif isinstance(problem, KeyboardInterrupt):
            message = f"interrupted: the same command with --resume goes on from {unfinished}"
            raise KeyboardInterrupt(message) from None
        raise


def forget(unfinished: Path) -> None:
    """The samples are safe, or there is nothing to go on from."""
    if unfinished.exists():
        shutil.rmtree(unfinished)
