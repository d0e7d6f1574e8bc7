"""Training checkpoints.

============================  =====================================================================
``checkpoint.json``           what the training was called with (``--resume`` refuses another call), and the figures
                              and notes of its samples
``checkpoint-samples.npz``    the samples, written once
``checkpoint.pt``             weights, optimizer, step and source; replaced as training goes on
============================  =====================================================================

They lie in the folder of the results, and are removed when the results are there.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.samples.samples import Samples

__all__ = ["Checkpoints"]

ABOUT_SAMPLES = "about_samples"
"""The entry of ``checkpoint.json`` that is no part of the call."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint files of one folder.

    Args:
        folder: of the results.
        call: everything that decides the result, as plain JSON.
    """

    folder: Path
    call: Mapping[str, Any]

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Of the call, the samples and the state."""
        return tuple(self.folder / f"checkpoint{end}" for end in (".json", "-samples.npz", ".pt"))  # type: ignore[return-value]

    def begin(self, samples: Samples) -> None:
        """Keep the call and the samples; whatever an earlier training has left is replaced."""
        call, kept, state = self.paths
        state.unlink(missing_ok=True)
        with atomic_file(kept) as partial:
            samples.save(partial)
        about = {
            "figures": {name: float(value) for name, value in samples.figures.items()},
            "notes": list(samples.notes),
        }
        with atomic_file(call) as partial:
            entries = {**self.call, ABOUT_SAMPLES: about}
            partial.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state."""
        with atomic_file(self.paths[2]) as partial:
            torch.save(dict(state), partial)

    def samples(self) -> Samples:
        """The samples of the training that is to go on, with their figures and notes.

        Raises:
            SamplesError: there is none in the folder, or it was called otherwise.
        """
        call, kept, _ = self.paths
        if not (call.exists() and kept.exists()):
            raise SamplesError(f"nothing to resume in {self.folder}: no checkpoint is there; leave --resume out")
        before = json.loads(call.read_text(encoding="utf-8"))
        about = before.pop(ABOUT_SAMPLES, {})
        now = json.loads(json.dumps(self.call))
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise SamplesError(
                    f"{self.folder} holds a training with {name}={before.get(name)}, and this call has "
                    f"{name}={now.get(name)}; call it as before, or leave --resume out to start again"
                )
        figures, notes = about.get("figures", {}), tuple(about.get("notes", ()))
        return replace(Samples.load(kept), figures=figures, notes=notes)

    def state(self) -> dict[str, Any] | None:
        """The last state; None where the training stopped before the first one.

        Raises:
            OutputError: the file cannot be read.
        """
        path = self.paths[2]
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as problem:
            reason = str(problem).split(".")[0]
            raise OutputError(f"{path}: the checkpoint cannot be read ({reason}); leave --resume out") from None
        return state

    def clear(self) -> None:
        """Remove all of them."""
        for path in self.paths:
            path.unlink(missing_ok=True)
