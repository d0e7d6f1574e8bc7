"""Journal of finished batches, for ``--resume``."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfq_deploy.errors import OutputError, SamplesError, one_line
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.plugins.contracts import Journal

__all__ = ["EVERY", "FolderJournal"]

EVERY = 30.0
"""Seconds from one state on disk to the next."""

FACTS = "facts.json"
STATE = "state.pt"


class FolderJournal(Journal):
    """A journal in a folder.

    Made afresh, it forgets what the folder holds; resumed, it goes on from that. Each file appears whole or not at all.

    Args:
        folder: made where it is missing.
        facts: what decides the samples, by the name that a user knows it by.
        resume: go on from what the folder holds.

    Raises:
        SamplesError: there is nothing to go on from, or it was made from other facts.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, resume: bool = False) -> None:
        self.folder = folder
        wanted = {name: str(value) for name, value in facts.items()}
        if resume:
            self._refuse_others(wanted)
        else:
            self.remove()
            try:
                folder.mkdir(parents=True)
                with atomic_file(folder / FACTS) as partial:
                    partial.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
            except OSError as problem:
                reason = problem.strerror or problem
                raise OutputError(f"cannot write {folder}: {reason}; choose another place with -o") from None
        self._written = time.monotonic()

    def _refuse_others(self, wanted: Mapping[str, str]) -> None:
        try:
            found = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SamplesError(
                f"--resume: no unfinished work in {self.folder}; leave --resume out to start again"
            ) from None
        for name, value in wanted.items():
            if found.get(name) != value:
                raise SamplesError(
                    f"--resume: {name} was {found.get(name, 'not given')} and is {value} now; give what was given "
                    "before, or leave --resume out to start again"
                )

    def batch(self, index: int) -> Mapping[str, Any] | None:
        """The arrays and numbers of a finished batch, as :meth:`keep` was given them; None where it is not finished."""
        path = self._path(index)
        if not path.exists():
            return None
        return self._read(path)

    def keep(self, index: int, batch: Mapping[str, Any]) -> None:
        """Batch ``index`` is finished: arrays, tensors and plain values by name."""
        self._write(self._path(index), batch)
        (self.folder / STATE).unlink(missing_ok=True)
        self._written = time.monotonic()

    def due(self) -> bool:
        """True once :data:`EVERY` seconds have gone by since something was written."""
        return time.monotonic() - self._written >= EVERY

    def note(self, state: Mapping[str, Any]) -> None:
        """Where the running batch stands; the note before it is replaced."""
        self._write(self.folder / STATE, state)
        self._written = time.monotonic()

    def noted(self) -> Mapping[str, Any] | None:
        """What :meth:`note` was given last; None where no batch has begun since."""
        path = self.folder / STATE
        return self._read(path) if path.exists() else None

    def remove(self) -> None:
        """The samples are written: nothing is left to go on from."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"batch-{index:05d}.pt"

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        tensors = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in content.items()
        }
        with atomic_file(path) as partial:
            torch.save(tensors, partial)

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as problem:  # torch raises whatever its reader meets
            reason = one_line(problem, 120)
            raise SamplesError(
                f"--resume: {path} cannot be read ({reason}); leave --resume out to start again"
            ) from None
        return content
