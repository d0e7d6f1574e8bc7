"""Make temporary files and folders, and remove those of runs that were killed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: a temporary file of a killed run stays
    fcntl = None  # type: ignore[assignment]

__all__ = ["is_staged", "staged_file", "staged_folder", "try_lock"]

MARK = ".dfq-"
"""Part of the name of every temporary file, which begins with a dot and the name of the result."""

SETTLED = 5.0
"""Seconds after which a temporary file without a lock belongs to no run."""


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a new temporary file beside ``path``; it is deleted at the end, unless it was renamed.

    Raises:
        OSError: it cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path.parent, path.name)
    handle, name = tempfile.mkstemp(prefix=_prefix(path.name), suffix=path.suffix, dir=path.parent)
    partial = Path(name)
    try:
        try_lock(handle)
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
    partial = Path(tempfile.mkdtemp(prefix=_prefix(name), dir=place))
    handle = os.open(partial, os.O_RDONLY) if fcntl is not None else None
    try:
        if handle is not None:
            try_lock(handle)
        yield partial
    finally:
        if handle is not None:
            os.close(handle)
        if partial.exists():
            shutil.rmtree(partial)


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
            if time.time() - path.stat().st_mtime < SETTLED:
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                if try_lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)
