"""The sample set and its .npz file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.arrays import allocate
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import ExtraInputs
from dfq_deploy.samples.npz import Stored, read_arrays, write_arrays
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["Samples"]

BLOCK = 256
"""Samples that are looked at together."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs in the model's own input space.

    Args:
        images: float32 (N, C, H, W) or (N, H, W, C), the model's main input (any shape (N, ...) where it is no image;
            integers stand as floats, and are fed in the input's own type).
        labels: float32 (N, K) soft labels or int64 (N,) classes; None where there are none.
        method: the synthesis method that made them; empty for real data.
        synthetic: whether they were synthesized: ranges that are measured on such samples get headroom
            (:data:`dfq_deploy.quantization.encode.HEADROOM`). None: those of a ``method`` were, others were not.
        figures: numbers that the maker wants to report, e.g. the distance of the statistics.
        notes: sentences that the user should read, e.g. why another method than the one asked for was used.
        extra: the model's other inputs by name, each (N, ...).
        preprocess: what turns pixels into ``images``; None where that is not known.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.int64] | None = None
    method: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: ExtraInputs = field(default_factory=dict)
    synthetic: bool | None = None
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        if self.images.ndim < 1 or len(self.images) == 0:
            raise SamplesError(f"samples: the set is empty (shape {self.images.shape}); at least one is needed")
        blocks = range(0, len(self.images), BLOCK)  # a set may be larger than memory
        if not all(np.isfinite(self.images[first : first + BLOCK]).all() for first in blocks):
            raise SamplesError("samples: NaN or infinity among the values; lower the learning rate or check the model")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise SamplesError(f"samples: {len(self.labels)} labels for {len(self.images)} images")
        for name, rows in self.extra.items():
            if rows.ndim < 1 or len(rows) != len(self.images):
                raise SamplesError(
                    f"samples: input '{name}' of shape {rows.shape} for {len(self.images)} images; "
                    "a row is needed for each"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_synthetic(self) -> bool:
        """True if they were synthesized."""
        return bool(self.method) if self.synthetic is None else self.synthetic

    def part(self, index: slice | NDArray[Any]) -> "Samples":
        """Some of them: a slice, indices or a mask."""
        labels = None if self.labels is None else self.labels[index]
        extra = {name: rows[index] for name, rows in self.extra.items()}
        return replace(self, images=_taken(self.images, index), labels=labels, extra=extra)

    def save(self, path: AnyPath) -> None:
        """Write an uncompressed .npz, whose members docs/formats.md lists; or ``images`` alone, where ``path`` ends in
        .npy, as ModelOpt's ``--calibration_data_path`` takes them.

        Raises:
            SamplesError: an .npy cannot hold the other inputs.
            OutputError: the file cannot be written.
        """
        path = as_path(path, "path")
        if path.suffix == ".npy":
            for name in self.extra:
                raise SamplesError(f"{path}: an .npy holds one array, and there is input '{name}'; write an .npz")
            with atomic_file(path) as partial, partial.open("wb") as stream:
                np.save(stream, self.images, allow_pickle=False)
            return
        synthetic = None if self.is_synthetic == bool(self.method) else self.is_synthetic
        write_arrays(path, Stored(self.images, self.labels, self.method, self.extra, self.preprocess, synthetic))

    @classmethod
    def load(cls, path: AnyPath) -> "Samples":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: it cannot be read, or holds no float images.
        """
        try:
            stored = read_arrays(as_path(path, "path"))
            if not stored.named:
                raise ValueError("a single array, not an archive of named ones")
            if stored.images.dtype != np.float32:
                raise ValueError(f"'images' are {stored.images.dtype}, not float32")
        except ValueError as problem:
            raise SamplesError(f"{path}: not a samples file ({problem}); make one with dfq-deploy synthesize") from None
        return cls(
            stored.images,
            stored.labels,
            stored.method,
            extra=stored.extra,
            synthetic=stored.synthetic,
            preprocess=stored.preprocess,
        )


def _taken(images: NDArray[np.float32], index: slice | NDArray[Any]) -> NDArray[np.float32]:
    """``images[index]``; what is copied goes, block by block, to where there is room for it."""
    if isinstance(index, slice):
        return images[index]
    chosen = np.flatnonzero(index) if index.dtype == np.bool_ else index
    taken = allocate((len(chosen), *images.shape[1:]))
    for first in range(0, len(chosen), BLOCK):
        taken[first : first + BLOCK] = images[chosen[first : first + BLOCK]]
    return taken
