"""Refuse to write over what is read."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from dfq_deploy.errors import OutputError

__all__ = ["refuse_overwriting"]


def refuse_overwriting(written: Iterable[Path], read: Iterable[object]) -> None:
    """Refuse an output that is one of the inputs.

    Args:
        read: the inputs; what is no path, or has no path as its ``model``, is ignored.

    Raises:
        OutputError: one is.
    """
    sources = (getattr(source, "model", source) for source in read)
    inputs = [Path(source) for source in sources if isinstance(source, str | PathLike)]
    inputs = [path for path in inputs if path.is_file()]
    for output in written:
        for source in inputs:
            if output.exists() and output.samefile(source):
                raise OutputError(f"cannot write {output}: it is read by this command; choose another place with -o")
