"""Samples: inputs for a model, made or read, and their file."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
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
        figures: numbers that the maker wants to report, e.g. the distance of the statistics.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.int64] | None = None
    figures: dict[str, float] = field(default_factory=dict)

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
        """Write ``images`` (and ``labels``) as an uncompressed .npz."""
        arrays = {"images": self.images} if self.labels is None else {"images": self.images, "labels": self.labels}
        with replacing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Samples":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: it cannot be read, or holds no float images.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["images"], arrays["labels"] if "labels" in arrays else None)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
            raise SamplesError(f"{path}: not a samples file ({problem}); make one with dfq-deploy synthesize") from None
