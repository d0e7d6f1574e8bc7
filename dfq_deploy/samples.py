"""Samples: inputs for a model, made or read, and their file."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.files import replacing

__all__ = ["Samples"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs in the model's own input space.

    Args:
        images: float32 (N, C, H, W), the model's main input (any shape (N, ...) where it is no image).
        labels: float32 (N, K) soft labels or int64 (N,) classes; None where there are none.
        method: the synthesis method that made them; empty for real data.
        figures: numbers that the maker wants to report, e.g. the distance of the statistics.
        notes: sentences that the user should read, e.g. why another method than the one asked for was used.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.int64] | None = None
    method: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim < 1 or len(self.images) == 0:
            raise SamplesError(f"samples: the set is empty (shape {self.images.shape}); at least one is needed")
        if not np.isfinite(self.images).all():
            raise SamplesError("samples: NaN or infinity among the values; lower the learning rate or check the model")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise SamplesError(f"samples: {len(self.labels)} labels for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: Path) -> None:
        """Write ``images`` (and ``labels`` and ``method``) as an uncompressed .npz."""
        arrays: dict[str, NDArray[Any]] = {"images": self.images}
        if self.labels is not None:
            arrays["labels"] = self.labels
        if self.method:
            arrays["method"] = np.array(self.method)
        with replacing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Samples":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: it cannot be read, or holds no float images.
        """
        try:
            # Opened here, because np.load leaves the file open where the archive is broken.
            with path.open("rb") as stream:
                arrays = np.load(stream, allow_pickle=False)
                if not isinstance(arrays, NpzFile):
                    raise ValueError("a single array, not an archive of named ones")
                images, labels = arrays["images"], arrays.get("labels")
                method = str(arrays.get("method", ""))
            if images.dtype != np.float32:
                raise ValueError(f"'images' are {images.dtype}, not float32")
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as problem:
            raise SamplesError(f"{path}: not a samples file ({problem}); make one with dfq-deploy synthesize") from None
        return cls(images, labels, method)
