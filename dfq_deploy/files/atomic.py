"""Write files and folders atomically."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import OutputError

__all__ = ["atomic_file", "atomic_folder", "check_writable"]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` when the block succeeds.

    An existing file is unchanged until then, and remains unchanged if the block raises.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as problem:
        raise _cannot_write(path, problem) from None
    partial = Path(name)
    try:
        yield partial
        # mkstemp creates files that only the owner can read; results get the permissions of a plain open().
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as problem:
        raise _cannot_write(path, problem) from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; move its files to ``folder`` when the block succeeds.

    The contents of ``folder`` are unchanged until then, and remain unchanged if the block raises. An interrupt
    while the files are moved is ignored, because the work is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise OutputError(f"cannot write into {folder}: it is not a writable folder; choose another with -o")
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as problem:
        raise _cannot_write(folder, problem) from None
    try:
        yield partial
        folder.mkdir(exist_ok=True)
        with _uninterrupted():
            for file in sorted(partial.iterdir()):
                file.replace(folder / file.name)
    except OSError as problem:
        raise _cannot_write(folder, problem) from None
    finally:
        shutil.rmtree(partial)


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
    for place in (folder, folder.parent) if folder.exists() else existing[:1]:
        try:
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=place):
                pass
        except OSError as problem:
            raise _cannot_write(folder, problem) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, problem: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {problem.strerror or problem}; choose another place with -o")
