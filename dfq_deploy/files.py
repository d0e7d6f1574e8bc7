"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import OutputError

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}; choose another place with -o") from None
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes files that only their owner reads; results get what a plain open() would give.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(path)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}; choose another place with -o") from None
    finally:
        partial.unlink(missing_ok=True)
