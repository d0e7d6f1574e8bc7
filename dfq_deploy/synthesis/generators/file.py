"""Save and load trained generators."""

import io
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
    """The contents of a generator file.

    Args:
        method: the method that trained it, e.g. ``gdfq``.
        shape: shape of its images, (C, H, W).
        classes: number of classes of the model that it was trained on.
        structure: the options of the method that determine the sizes of its networks.
        state: state of the source, without the optimizer.
    """

    method: str
    shape: tuple[int, ...]
    classes: int | None
    structure: Mapping[str, Any]
    state: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OutputError: the file cannot be written.
        """
        contents = {field.name: getattr(self, field.name) for field in fields(self)}
        stream = io.BytesIO()  # torch writes the name of a file into it, and that of a temporary one is random
        torch.save({"format": FORMAT, **contents}, stream)
        with atomic_file(path) as partial:
            partial.write_bytes(stream.getbuffer())

    @classmethod
    def load(cls, path: Path) -> "GeneratorFile":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: it cannot be read, or is not a generator file.
        """
        way_out = "; make one with dfq-deploy synthesize --method gdfq, qimera, adversarial or dfqf"
        try:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as e:
            reason = " ".join(str(e).split())[:120]
            raise SamplesError(f"{path}: not a generator ({reason}){way_out}") from None
        if not isinstance(contents, dict) or contents.pop("format", None) != FORMAT:
            raise SamplesError(f"{path}: not a generator of dfq-deploy{way_out}")
        try:
            return cls(**contents)
        except TypeError:
            raise SamplesError(f"{path}: the generator file is incomplete{way_out}") from None

    def check_fits(self, path: Path, method: str, shape: tuple[int, ...], classes: int | None) -> None:
        """Check that the generator belongs to the method and the model.

        Raises:
            SamplesError: it does not fit.
        """
        if self.method != method:
            raise SamplesError(f"{path}: a generator of {self.method}, not of {method}; use {self.method}")
        for name, actual, expected in (("images", self.shape, shape), ("classes", self.classes, classes)):
            if actual != expected:
                raise SamplesError(
                    f"{path}: a generator for {name} {actual}, and the model's are {expected}; train one on this model"
                )
