"""Let only one run at a time write to a place."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfq_deploy.errors import OutputError
from dfq_deploy.files.paths import cache_folder
from dfq_deploy.files.staging import try_lock

__all__ = ["claimed"]


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Claim the place ``path`` for this run until the block ends, against other runs on this machine.

    The claim is a locked file in the user's cache folder; it ends with the process, however that ends. Without a cache
    folder that can be written, nothing is claimed.

    Raises:
        OutputError: another run writes there.
    """
    handle = _open(path)
    if handle is None:
        yield
        return
    try:
        if not try_lock(handle):
            raise OutputError(f"another run writes {path}; wait until it has ended, or choose another place with -o")
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int | None:
    cache = cache_folder()
    if cache is None:
        return None
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    try:
        (cache / "claims").mkdir(parents=True, exist_ok=True)
        return os.open(cache / "claims" / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
