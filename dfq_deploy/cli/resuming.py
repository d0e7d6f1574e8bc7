"""Keep or remove the folder of an unfinished synthesis."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.files.unfinished import refuse_foreign, remove_unfinished

__all__ = ["resumable"]


@contextmanager
def resumable(unfinished: Path) -> Iterator[None]:
    """Keep ``unfinished`` if the block fails and its work can be resumed; an interrupt then says how to.

    Raises:
        OutputError: there is a folder of that name that holds something else.
    """
    refuse_foreign(unfinished)
    try:
        yield
    except BaseException as problem:
        if not any(unfinished.glob("*.pt")):
            remove_unfinished(unfinished)
        elif isinstance(problem, KeyboardInterrupt):
            message = f"interrupted: run the same command with --resume to continue from {unfinished}"
            raise KeyboardInterrupt(message) from None
        raise
