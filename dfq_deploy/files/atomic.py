"""Write files and folders atomically."""

import ctypes
import errno
import os
import shutil
import signal
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import OutputError
from dfq_deploy.files.staging import is_staged, staged_file, staged_folder
from dfq_deploy.files.written import note_written

__all__ = ["atomic_file", "atomic_files", "atomic_folder", "check_writable"]

FULL = 2**20
"""Bytes of free space below which a failed write means that the disk is full."""

WRITER = ("writ", "inline_container", "unexpected pos")
"""Words in a RuntimeError of torch's writer."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` when the block succeeds.

    An existing file is unchanged until then, and remains unchanged if the block raises. If ``path`` is a symbolic link,
    the file that it points to is replaced, and the link stays.

    Raises:
        OutputError: the folder cannot be written, ``path`` is no plain file, or the disk is full.
    """
    target = _plain(path)
    try:
        with staged_file(target) as partial:
            with _full_disk_named(target.parent):
                yield partial
            # mkstemp creates files that only the owner can read; results get the permissions of a plain open().
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
    except OSError as problem:
        raise _cannot_write(path, problem) from None


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Raise the error of a full disk where torch says only that its writer failed."""
    try:
        yield
    except RuntimeError as problem:
        if any(word in str(problem) for word in WRITER) and _free(folder) < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise


@contextmanager
def _shown_as(partial: Path, shown: Path) -> Iterator[None]:
    """Name the place of the result in an error about one of its temporary files."""
    try:
        yield
    except OutputError as problem:
        raise OutputError(str(problem).replace(str(partial), str(shown))) from None


@contextmanager
def atomic_files(path: Path, companions: Collection[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder for ``path`` and the files beside it that belong to it.

    When the block succeeds, the files in it replace those of the same names. The companions of an earlier ``path`` are
    removed first and the new ones come last, so that a killed run never leaves one beside a file of another. Nothing
    is changed if the block raises.

    Args:
        companions: files that belong to ``path``, and are removed if the new result does not have them.

    Raises:
        OutputError: the folder cannot be written, ``path`` is no plain file, or the disk is full.
    """
    target = _plain(path)
    if target.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file with -o")
    try:
        with staged_folder(target.parent, target.name) as partial:
            with _shown_as(partial, path.parent):
                yield partial
            with _uninterrupted():
                made = sorted(file for file in partial.iterdir() if file.name != path.name)
                for old in {*companions, *(path.with_name(file.name) for file in made)}:
                    old.unlink(missing_ok=True)
                if (partial / path.name).exists():
                    (partial / path.name).replace(target)
                for file in made:
                    file.replace(path.with_name(file.name))
                note_written(path)
    except OSError as problem:
        raise _cannot_write(path, problem) from None


def _plain(path: Path) -> Path:
    """The file to replace: that behind a symbolic link."""
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OutputError(f"cannot write {path}: it is a device, not a plain file; choose another place with -o")
    return target


@contextmanager
def atomic_folder(folder: Path, stale: Collection[str] = (), seal: str = "") -> Iterator[Path]:
    """Yield a temporary folder; its files become those of ``folder`` when the block succeeds.

    The contents of ``folder`` are unchanged until then, and remain unchanged if the block raises. A new folder appears
    whole. One that exists is exchanged as a whole, with its other files, where the system can do that: not a mount
    point, nor the working folder. There its files are replaced one by one, an interrupt is ignored meanwhile, and
    ``seal`` is removed first and comes last: a folder without it is that of a killed run.

    Args:
        stale: names of files in ``folder`` that are removed if the new result does not have them.
        seal: the name of a file that every result has.

    Raises:
        OutputError: the folder cannot be written.
    """
    place = folder.resolve() if folder.is_symlink() else folder
    if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
        raise OutputError(f"cannot write into {folder}: it is not a writable folder; choose another with -o")
    inside = place.is_dir() and not _can_be_exchanged(place)
    try:
        with staged_folder(place if inside else place.parent, place.name) as partial:
            with _shown_as(partial, folder):
                yield partial
            with _uninterrupted():
                _publish(partial, place, stale, seal)
                note_written(folder)
    except OSError as problem:
        raise _cannot_write(folder, problem) from None


def _publish(partial: Path, folder: Path, stale: Collection[str], seal: str) -> None:
    partial.chmod(0o777 & ~_umask())
    if not folder.exists():
        partial.rename(folder)
        return
    new = {file.name for file in partial.iterdir()}
    if partial.parent != folder:
        others = [file for file in folder.iterdir() if file.name not in {*new, *stale} and not is_staged(file)]
        if _taken_along(others, partial) and _exchange(partial, folder):
            return
    if seal:
        (folder / seal).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: (name == seal, name)):
        (partial / name).replace(folder / name)
    for name in set(stale) - new:
        (folder / name).unlink(missing_ok=True)


def _taken_along(files: Iterable[Path], partial: Path) -> bool:
    """Link files and folders that are not ours into the new folder; False, and nothing, where that cannot be done."""
    done: list[Path] = []
    try:
        for file in files:
            done.append(partial / file.name)
            if file.is_dir() and not file.is_symlink():
                shutil.copytree(file, done[-1], symlinks=True, copy_function=os.link)
            else:
                os.link(file, done[-1], follow_symlinks=False)
    except OSError:  # of another file system or owner, or a system without links
        for path in done:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return False
    return True


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
    """Ignore Ctrl-C, SIGTERM and SIGHUP; do nothing in other threads than the main one, or if C code handles them."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {kind: signal.getsignal(kind) for kind in (getattr(signal, name, None) for name in names) if kind}
    if None in before.values() or threading.current_thread() is not threading.main_thread():
        yield
        return
    for kind in before:
        signal.signal(kind, signal.SIG_IGN)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


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
