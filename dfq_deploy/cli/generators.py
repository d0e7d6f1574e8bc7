"""Keep the generator that ``dfq-deploy synthesize`` trained."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfq_deploy.cli.plugin_options import method_fields
from dfq_deploy.plugins.registry import AUTO, synthesizer_of

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Synthesizer

__all__ = ["KeptGenerator", "save_generator_beside"]

STAGED = "generator.pt"
"""Name of the generator in the folder of the unfinished run."""


@dataclass(frozen=True)
class KeptGenerator:
    """Where the generator of a run is written.

    Args:
        path: the file that the user gets; None if there is none.
        staged: where the method writes it meanwhile; None if the user has named a file, which is written at once.
    """

    path: Path | None = None
    staged: Path | None = None

    @property
    def companions(self) -> Collection[Path]:
        """The file that is replaced together with the samples."""
        return () if self.path is None or self.staged is None else (self.path,)

    def move_into(self, folder: Path) -> None:
        """Put the generator beside the samples in ``folder``, if there is one."""
        if self.path is not None and self.staged is not None and self.staged.exists():
            self.staged.replace(folder / self.path.name)


def save_generator_beside(
    synth: "str | Synthesizer", samples: Path, unfinished: Path
) -> "tuple[str | Synthesizer, KeptGenerator]":
    """The method with its option ``save`` set, so that the generator ends at the samples' path with ``.pt``.

    A method without that option stays as it is, and so does one that loads its generator from a file.

    Args:
        unfinished: the folder of the unfinished run, whose path is the same when it is resumed.
    """
    if synth == AUTO:
        return synth, KeptGenerator()
    method: Any = synthesizer_of(synth)
    if not {"save", "generator"} <= {field.name for field, _ in method_fields(type(method))}:
        return synth, KeptGenerator()
    if method.save is not None:
        return method, KeptGenerator(Path(method.save))
    if method.generator is not None:
        return method, KeptGenerator()
    kept = KeptGenerator(samples.with_suffix(".pt"), unfinished / STAGED)
    return replace(method, save=str(kept.staged)), kept
