"""Make temporary files and folders, and remove those of runs that were killed."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

try:
    import fcntl
except ImportError:  # Windows: a temporary file of a killed run stays
    fcntl = None  # type: ignore[assignment]

__all__ = ["is_staged", "staged_file", "staged_folder", "try_lock"]

Handle = TypeVar("Handle", int, int | None)

MARK = ".dfq-"
"""Part of the name of every temporary file, which begins with a dot and the name of the result."""


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a new temporary file beside ``path``; it is deleted at the end, unless it was renamed.

    Raises:
        OSError: it cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path.parent, path.name)
    partial, handle = _locked(lambda: _new_file(path))
    try:
        yield partial
    finally:
        os.close(handle)
        partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(place: Path, name: str) -> Iterator[Path]:
    """Yield a new temporary folder in ``place`` for a result called ``name``; it is deleted at the end.

    Raises:
        OSError: it cannot be created.
    """
    if not place.exists():
        place.mkdir(parents=True)
    _remove_dead(place, name)
    partial, handle = _locked(lambda: _new_folder(place, name))
    try:
        yield partial
    finally:
        if handle is not None:
            os.close(handle)
        if partial.exists():
            shutil.rmtree(partial)


def _new_file(path: Path) -> tuple[Path, int]:
    handle, name = tempfile.mkstemp(prefix=_prefix(path.name), suffix=path.suffix, dir=path.parent)
    return Path(name), handle


def _new_folder(place: Path, name: str) -> tuple[Path, int | None]:
    partial = Path(tempfile.mkdtemp(prefix=_prefix(name), dir=place))
    try:
        return partial, os.open(partial, os.O_RDONLY) if fcntl is not None else None
    except FileNotFoundError:  # taken for that of a killed run, as in _locked
        return partial, None


def _locked(make: Callable[[], tuple[Path, Handle]]) -> tuple[Path, Handle]:
    """Make a temporary file or folder and lock it.

    Another run that looks for those of killed runs may take it for one of them before it is locked, and remove it; then
    another one is made.
    """
    while True:
        path, handle = make()
        if (handle is None or try_lock(handle)) and path.exists():
            return path, handle
        if handle is not None:
            os.close(handle)


def is_staged(path: Path) -> bool:
    """Return whether the name is that of a temporary file or folder."""
    return path.name.startswith(".") and MARK in path.name


def try_lock(handle: int) -> bool:
    """Lock an open file for this process until it ends; False if another process has it.

    True where the system has no such locks, too.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _prefix(name: str) -> str:
    return f".{name[:100]}{MARK}"


def _remove_dead(place: Path, name: str) -> None:
    """Remove the temporary files of runs that were killed; their locks ended with them."""
    if fcntl is None:
        return
    for path in place.iterdir() if place.is_dir() else ():
        if not path.name.startswith(_prefix(name)) or path.is_symlink():
            continue
        with suppress(OSError):  # another run removes it too, or holds it
            handle = os.open(path, os.O_RDONLY)
            try:
                if try_lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)
