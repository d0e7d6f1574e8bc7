"""Training checkpoints.

============================  =====================================================================
``checkpoint.json``           the arguments of the training (``--resume`` rejects other ones), and the figures and
                              notes of its samples
``checkpoint-samples.npz``    the samples, written once
``checkpoint.pt``             weights, optimizer, step and source; replaced during training
============================  =====================================================================

They are written to the output folder, and removed once the results are written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.sealed import Damaged, read_document, read_state, write_document, write_state
from dfq_deploy.samples.samples import Samples

__all__ = ["Checkpoints"]

SAMPLES_ENTRY = "about_samples"
"""The entry of ``checkpoint.json`` that is not an argument of the training."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint files of one folder.

    Args:
        folder: the output folder.
        call: all arguments that determine the result, as plain JSON.
    """

    folder: Path
    call: Mapping[str, Any]

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Paths of the arguments, the samples and the state."""
        return tuple(self.folder / f"checkpoint{end}" for end in (".json", "-samples.npz", ".pt"))  # type: ignore[return-value]

    def begin(self, samples: Samples) -> None:
        """Write the arguments and the samples; files of an earlier training are replaced."""
        call_path, samples_path, state_path = self.paths
        state_path.unlink(missing_ok=True)
        with atomic_file(samples_path) as partial:
            samples.save(partial)
        description = {
            "figures": {name: float(value) for name, value in samples.figures.items()},
            "notes": list(samples.notes),
        }
        write_document(call_path, {**self.call, SAMPLES_ENTRY: description})

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state; an earlier one is replaced."""
        write_state(self.paths[2], state)

    def samples(self) -> Samples:
        """Return the samples of the training to resume, with their figures and notes.

        Raises:
            SamplesError: the folder has no checkpoint, it is damaged, or its arguments differ.
        """
        call_path, samples_path, _ = self.paths
        if not (call_path.exists() and samples_path.exists()):
            raise SamplesError(f"nothing to resume in {self.folder}: it has no checkpoint; omit --resume")
        try:
            previous = read_document(call_path)
        except Damaged as problem:
            raise SamplesError(f"{call_path}: the checkpoint cannot be read ({problem}); omit --resume") from None
        description = previous.pop(SAMPLES_ENTRY, {})
        current = json.loads(json.dumps(self.call))
        for name in sorted({*previous, *current}):
            if previous.get(name) != current.get(name):
                raise SamplesError(
                    f"the checkpoint in {self.folder} has {name}={previous.get(name)}, and this call has "
                    f"{name}={current.get(name)}; use the same arguments, or omit --resume to start again"
                )
        figures, notes = description.get("figures", {}), tuple(description.get("notes", ()))
        return replace(Samples.load(samples_path), figures=figures, notes=notes)

    def state(self) -> dict[str, Any] | None:
        """Return the last state; None if the training stopped before the first one was saved.

        Raises:
            OutputError: the file cannot be read.
        """
        path = self.paths[2]
        if not path.exists():
            return None
        try:
            return read_state(path)
        except Damaged as problem:
            raise OutputError(f"{path}: the checkpoint cannot be read ({problem}); omit --resume") from None

    def clear(self) -> None:
        """Remove all files of the checkpoint."""
        for path in self.paths:
            path.unlink(missing_ok=True)
