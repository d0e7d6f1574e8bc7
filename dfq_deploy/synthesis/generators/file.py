"""Save and load trained generators."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.atomic import atomic_file

__all__ = ["GeneratorFile"]

FORMAT = "dfq-deploy generator 1"


@dataclass(frozen=True, eq=False)
class GeneratorFile:
    """What a generator's file holds.

    Args:
        method: that trained it, e.g. ``gdfq``.
        shape: of its images, (C, H, W).
        classes: of the model that it was trained on.
        structure: the options of the method that decide the sizes of its networks.
        state: the source's, without the optimizer.
    """

    method: str
    shape: tuple[int, ...]
    classes: int | None
    structure: Mapping[str, Any]
    state: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: the place cannot be written.
        """
        with atomic_file(path) as partial:
            held = {field.name: getattr(self, field.name) for field in fields(self)}
            torch.save({"format": FORMAT, **held}, partial)

    @classmethod
    def load(cls, path: Path) -> "GeneratorFile":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: it cannot be read, or is none.
        """
        way_out = "; make one with dfq-deploy synthesize --method gdfq, qimera, adversarial or dfqf"
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as e:
            reason = " ".join(str(e).split())[:120]
            raise SamplesError(f"{path}: not a generator ({reason}){way_out}") from None
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise SamplesError(f"{path}: not a generator of dfq-deploy{way_out}")
        try:
            return cls(**found)
        except TypeError:
            raise SamplesError(f"{path}: the generator's file is not complete{way_out}") from None

    def refuse_misfit(self, path: Path, method: str, shape: tuple[int, ...], classes: int | None) -> None:
        """Refuse a generator of another method, or for another model.

        Raises:
            SamplesError: it does not fit.
        """
        if self.method != method:
            raise SamplesError(f"{path}: a generator of {self.method}, not of {method}; ask for {self.method}")
        for fact, found, wanted in (("images", self.shape, shape), ("classes", self.classes, classes)):
            if found != wanted:
                raise SamplesError(
                    f"{path}: a generator for {fact} {found}, and the model's are {wanted}; train one on this model"
                )
