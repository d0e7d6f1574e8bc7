"""Accept a path as a string or a path object."""

import os
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from dfq_deploy.errors import OptionError

__all__ = ["AnyPath", "as_path", "cache_folder"]

AnyPath: TypeAlias = str | PathLike[str]
"""The type of file and folder arguments of public functions."""


def as_path(value: AnyPath, option: str) -> Path:
    """Convert ``value`` to a :class:`~pathlib.Path`; a leading ``~`` is the home folder.

    Args:
        value: a string or a path object.
        option: name of the argument in the error message.

    Raises:
        OptionError: it is neither a string nor a path object, or is empty.
    """
    if not isinstance(value, str | PathLike) or not isinstance(fspath(value), str) or not str(fspath(value)):
        raise OptionError(f"{option}: {value!r} is not a path; give a string or a pathlib.Path, e.g. 'int8'")
    return Path(value).expanduser()


def cache_folder() -> Path | None:
    """Return the folder for what may be lost: ``$XDG_CACHE_HOME/dfq-deploy``, or ``~/.cache/dfq-deploy``.

    It may not exist, and may not be writable; None without a home folder.
    """
    stated = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(stated) if stated else Path.home() / ".cache") / "dfq-deploy"
    except RuntimeError:  # no home folder
        return None
