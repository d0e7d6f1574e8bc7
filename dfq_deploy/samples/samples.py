"""The sample set and its .npz file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.arrays import blocks, loaded, selected
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import ExtraInputs
from dfq_deploy.samples.npz import SampleArrays, read_arrays, write_arrays
from dfq_deploy.samples.pictures.originals import Originals
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["Samples"]


@dataclass(frozen=True, eq=False)
class Samples:
    """A set of model inputs, preprocessed.

    Args:
        images: float32 (N, C, H, W) or (N, H, W, C), the model's main input (any shape (N, ...) if it is not an image;
            integers are stored as floats, and are fed in the type of the input).
        labels: float32 (N, K) soft labels or int64 (N,) classes; None if there are none.
        method: the synthesis method; empty for real data.
        synthetic: whether the samples were synthesized: ranges measured on such samples get headroom
            (:data:`dfq_deploy.quantization.encode.HEADROOM`). None: they were if ``method`` is set.
        figures: figures for the report, e.g. the statistics distance.
        notes: messages for the user, e.g. why another method than the requested one was used.
        extra: the other inputs of the model by name, each (N, ...).
        preprocess: the conversion of pixels to ``images``; None if unknown.
        originals: what the pictures were like that ``images`` were made of; None where they were made of none.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | NDArray[np.int64] | None = None
    method: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: ExtraInputs = field(default_factory=dict)
    synthetic: bool | None = None
    preprocess: Preprocess | None = None
    originals: Originals | None = None

    def __post_init__(self) -> None:
        if self.images.ndim < 1 or len(self.images) == 0:
            raise SamplesError(f"samples: the set is empty (shape {self.images.shape}); at least one is needed")
        # A set may be larger than memory.
        if not all(np.isfinite(loaded(self.images[block])).all() for block in blocks(self.images)):
            raise SamplesError("samples: NaN or infinity among the values; lower the learning rate or check the model")
        if self.labels is not None and (self.labels.ndim < 1 or len(self.labels) != len(self.images)):
            raise SamplesError(f"samples: labels of shape {self.labels.shape} for {len(self.images)} images")
        for name, rows in self.extra.items():
            if rows.ndim < 1 or len(rows) != len(self.images):
                raise SamplesError(
                    f"samples: input '{name}' of shape {rows.shape} for {len(self.images)} images; "
                    "one row per image is needed"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_synthetic(self) -> bool:
        """True if the samples were synthesized."""
        return bool(self.method) if self.synthetic is None else self.synthetic

    def part(self, index: slice | NDArray[Any]) -> "Samples":
        """Return the samples of a slice, indices or a mask."""
        labels = None if self.labels is None else self.labels[index]
        extra = {name: selected(rows, index) for name, rows in self.extra.items()}
        return replace(self, images=selected(self.images, index), labels=labels, extra=extra)

    def save(self, path: AnyPath) -> None:
        """Write an uncompressed .npz file (docs/formats.md), or ``images`` only if ``path`` ends in .npy.

        ModelOpt's ``--calibration_data_path`` reads such an .npy file.

        Raises:
            SamplesError: an .npy file cannot store other inputs.
            OutputError: the file cannot be written.
        """
        path = as_path(path, "path")
        if path.suffix == ".npy":
            for name in self.extra:
                raise SamplesError(f"{path}: an .npy file holds one array, without input '{name}'; write an .npz file")
            with atomic_file(path) as partial, partial.open("wb") as stream:
                np.save(stream, self.images, allow_pickle=False)
            return
        synthetic = None if self.is_synthetic == bool(self.method) else self.is_synthetic
        write_arrays(path, SampleArrays(self.images, self.labels, self.method, self.extra, self.preprocess, synthetic))

    @classmethod
    def load(cls, path: AnyPath) -> "Samples":
        """Read a file that :meth:`save` wrote.

        Raises:
            SamplesError: the file cannot be read, or has no float32 images.
        """
        try:
            arrays = read_arrays(as_path(path, "path"))
            if not arrays.named:
                raise ValueError("a single array, not an archive of named ones")
            if arrays.images.dtype != np.float32:
                raise ValueError(f"'images' are {arrays.images.dtype}, not float32")
        except ValueError as error:
            raise SamplesError(f"{path}: not a samples file ({error}); make one with dfq-deploy synthesize") from None
        return cls(
            arrays.images,
            arrays.labels,
            arrays.method,
            extra=arrays.extra,
            synthetic=arrays.synthetic,
            preprocess=arrays.preprocess,
        )
