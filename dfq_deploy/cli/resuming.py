"""Keep or remove the folder of an unfinished synthesis."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_unfinished", "resumable"]


@contextmanager
def resumable(unfinished: Path) -> Iterator[None]:
    """Keep ``unfinished`` if the block fails and its work can be resumed; an interrupt then says how to."""
    try:
        yield
    except BaseException as problem:
        if not any(unfinished.glob("*.pt")):
            remove_unfinished(unfinished)
        elif isinstance(problem, KeyboardInterrupt):
            message = f"interrupted: run the same command with --resume to continue from {unfinished}"
            raise KeyboardInterrupt(message) from None
        raise


def remove_unfinished(unfinished: Path) -> None:
    """Remove the folder, when the samples are written or nothing in it can be resumed."""
    if unfinished.exists():
        shutil.rmtree(unfinished)
