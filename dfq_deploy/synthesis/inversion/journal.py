"""Journal of finished batches, for ``--resume``."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files.sealed import Damaged, read_document, read_state, write_document, write_state
from dfq_deploy.files.unfinished import FACTS, refuse_foreign, remove_unfinished
from dfq_deploy.plugins.contracts import Journal

__all__ = ["EVERY", "FolderJournal"]

EVERY = 30.0
"""Seconds between two states that are written to disk."""

STATE = "state.pt"


class FolderJournal(Journal):
    """A journal that is stored in a folder.

    A new journal deletes what the folder contains; with ``resume`` it continues from it. Files are written atomically.

    Args:
        folder: created if it does not exist.
        facts: everything that the samples depend on, by the name that the user knows it by.
        resume: continue from the contents of the folder.

    Raises:
        SamplesError: there is nothing to resume, or the journal was written with other facts.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, resume: bool = False) -> None:
        self.folder = folder
        current = {name: str(value) for name, value in facts.items()}
        if resume:
            self._check_facts(current)
        else:
            refuse_foreign(folder)
            self.remove()
            try:
                folder.mkdir(parents=True)
                write_document(folder / FACTS, current)
            except OSError as problem:
                reason = problem.strerror or problem
                raise OutputError(f"cannot write {folder}: {reason}; choose another place with -o") from None
        self._last_write = time.monotonic()

    def _check_facts(self, current: Mapping[str, str]) -> None:
        if not (self.folder / FACTS).is_file():
            raise SamplesError(
                f"--resume: there is nothing to resume in {self.folder}; leave --resume out to start anew"
            )
        previous = _sound(self.folder / FACTS, read_document)
        for name, value in current.items():
            if previous.get(name) != value:
                raise SamplesError(
                    f"--resume: {name} was {previous.get(name, 'not given')} and is {value} now; use the same value as "
                    "before, or leave --resume out to start anew"
                )

    def load_batch(self, index: int) -> Mapping[str, Any] | None:
        """The contents of a finished batch, as passed to :meth:`save_batch`; None if it is not finished."""
        path = self._path(index)
        if not path.exists():
            return None
        return self._read(path)

    def save_batch(self, index: int, batch: Mapping[str, Any]) -> None:
        """Store a finished batch: arrays, tensors and plain values by name."""
        self._write(self._path(index), batch)
        self._forget_state()
        self._last_write = time.monotonic()

    def is_due(self) -> bool:
        """True if at least :data:`EVERY` seconds have passed since the last write."""
        return time.monotonic() - self._last_write >= EVERY

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Store the state of the running batch, replacing the previous one."""
        self._write(self.folder / STATE, state)
        self._last_write = time.monotonic()

    def load_state(self) -> Mapping[str, Any] | None:
        """The state that :meth:`save_state` stored last; None if no state was saved since the last finished batch.

        A run that was killed at the end of a batch may leave the state of that one.
        """
        path = self.folder / STATE
        return self._read(path) if path.exists() else None

    def remove(self) -> None:
        """Delete the journal, once the samples are written."""
        remove_unfinished(self.folder)

    def _forget_state(self) -> None:
        (self.folder / STATE).unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"batch-{index:05d}.pt"

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        tensors = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in content.items()
        }
        write_state(path, tensors)

    def _read(self, path: Path) -> Mapping[str, Any]:
        return _sound(path, read_state)


def _sound(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read(path)
    except Damaged as problem:
        raise SamplesError(f"--resume: {path} cannot be read ({problem}); leave --resume out to start anew") from None
