"""Write files and folders atomically."""

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import OutputError
from dfq_deploy.files.staging import is_staged, staged_file, staged_folder

__all__ = ["atomic_file", "atomic_folder", "check_writable"]

FULL = 2**20
"""Bytes of free space below which a failed write means that the disk is full."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` when the block succeeds.

    An existing file is unchanged until then, and remains unchanged if the block raises. If ``path`` is a symbolic link,
    the file that it points to is replaced, and the link stays.

    Raises:
        OutputError: the folder cannot be written, ``path`` is no plain file, or the disk is full.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OutputError(f"cannot write {path}: it is a device, not a plain file; choose another place with -o")
    try:
        with staged_file(target) as partial:
            yield partial
            # mkstemp creates files that only the owner can read; results get the permissions of a plain open().
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
    except OSError as problem:
        raise _cannot_write(path, problem) from None
    except RuntimeError as problem:
        # torch says only that its writer failed.
        if "writ" in str(problem) and _free(target.parent) < FULL:
            raise _cannot_write(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
        raise


@contextmanager
def atomic_folder(folder: Path, stale: Collection[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder; its files become those of ``folder`` when the block succeeds.

    The contents of ``folder`` are unchanged until then, and remain unchanged if the block raises. A new folder appears
    whole. One that exists is exchanged as a whole if it holds nothing but what is replaced, and the system can do that;
    otherwise its files are replaced one by one, an interrupt is ignored meanwhile, and other files stay.

    Args:
        stale: names of files in ``folder`` that are removed if the new result does not have them.

    Raises:
        OutputError: the folder cannot be written.
    """
    place = folder.resolve() if folder.is_symlink() else folder
    if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
        raise OutputError(f"cannot write into {folder}: it is not a writable folder; choose another with -o")
    inside = place.is_dir() and not _can_be_exchanged(place)
    try:
        with staged_folder(place if inside else place.parent, place.name) as partial:
            yield partial
            with _uninterrupted():
                _publish(partial, place, stale)
    except OSError as problem:
        raise _cannot_write(folder, problem) from None


def _publish(partial: Path, folder: Path, stale: Collection[str]) -> None:
    partial.chmod(0o777 & ~_umask())
    if not folder.exists():
        partial.rename(folder)
        return
    new = {file.name for file in partial.iterdir()}
    kept = [file for file in folder.iterdir() if file.name not in {*new, *stale} and not is_staged(file)]
    if not kept and partial.parent != folder and _exchange(partial, folder):
        return
    for file in sorted(partial.iterdir()):
        file.replace(folder / file.name)
    for name in set(stale) - new:
        (folder / name).unlink(missing_ok=True)


def _can_be_exchanged(folder: Path) -> bool:
    """False for a mount point, the working folder, and where the folder above cannot be written."""
    above = folder.parent
    return (
        os.access(above, os.W_OK)
        and not os.path.ismount(folder)
        and folder.stat().st_dev == above.stat().st_dev
        and not folder.samefile(Path.cwd())
    )


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, with renameat2 of Linux; False if the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C. It is always delivered to the main thread; do nothing in others, or if C code handles it."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check_writable(folder: Path) -> None:
    """Check before a long operation that :func:`atomic_folder` can write ``folder``; no files are left behind.

    Raises:
        OutputError: the folder cannot be written.
    """
    existing = [place for place in (folder, *folder.parents) if place.exists()]
    try:
        with staged_folder(existing[0], folder.name):
            pass
    except OSError as problem:
        raise _cannot_write(folder, problem) from None


def _free(folder: Path) -> int:
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):  # Windows has no statvfs
        return FULL
    return status.f_bavail * status.f_frsize


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, problem: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {problem.strerror or problem}; choose another place with -o")
