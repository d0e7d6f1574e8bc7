"""Accept a path as text or as a path object."""

from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from dfq_deploy.errors import OptionError

__all__ = ["AnyPath", "as_path"]

AnyPath: TypeAlias = str | PathLike[str]
"""What every public function takes where it wants a file or folder."""


def as_path(value: AnyPath, option: str) -> Path:
    """``value`` as a :class:`~pathlib.Path`; a leading ``~`` is the home folder.

    Args:
        option: what the error calls it.

    Raises:
        OptionError: it is neither text nor a path object, or is empty.
    """
    if not isinstance(value, str | PathLike) or not isinstance(fspath(value), str) or not str(fspath(value)):
        raise OptionError(f"{option}: {value!r} is no path; give one as text or as pathlib.Path, e.g. 'int8'")
    return Path(value).expanduser()
