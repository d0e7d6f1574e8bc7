"""Write files and folders whole or not at all."""

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
    """Yield a fresh path beside ``path``; rename it to ``path`` when the block ends well.

    An existing file stays as it is until then, and for good where the block raises.

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
        # mkstemp makes files that only their owner reads; results get what a plain open() would give.
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as problem:
        raise _cannot_write(path, problem) from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a fresh folder beside ``folder``; move its files there when the block ends well.

    What ``folder`` holds stays as it is until then, and for good where the block raises. An interrupt that
    comes while the files move is let pass: the work is done.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise OutputError(f"cannot write into {folder}: not a folder that can be written; choose another with -o")
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
    """Let Ctrl-C pass. It always goes to the main thread; elsewhere, and where C code handles it, nothing is done."""
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
    """Find out, before long work, whether :func:`atomic_folder` can fill ``folder``; nothing is left behind.

    Raises:
        OutputError: the place cannot be written.
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
