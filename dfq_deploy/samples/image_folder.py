"""Read images from a folder or zip, or arrays from .npz and .npy.

============================  =====================================================================
folder, .zip                  images; sub-folders are classes (:mod:`dfq_deploy.samples.labels`): by number, by
                              name in sorted order, or as listed in ``classes.txt``
.npz                          ``images`` and, optionally, ``labels``; ``input:NAME`` for each other input of the model
.npy                          images only
uint8 (N, H, W[, C])          preprocessed, resized and converted to the model's channels
float (N, C, H, W), (N, ...)  used unchanged: already the model's input, as are integers of rank 3 or less
============================  =====================================================================
"""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.errors import SamplesError, similar_file
from dfq_deploy.files.arrays import blocks, copied, loaded, selected
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import is_channels_last, looks_channels_last, sample_shape
from dfq_deploy.graph.query import score_count
from dfq_deploy.graph.task import score_output, task_hint
from dfq_deploy.samples.labels import CLASS_FILES, folder_labels, parse_class_names, read_class_names
from dfq_deploy.samples.npz import NoImages, SampleArrays, read_arrays
from dfq_deploy.samples.pictures.fitting import PictureFitter
from dfq_deploy.samples.pictures.listing import SUFFIXES, Picture, evenly_spaced, folder_pictures, zip_pictures
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.validation.archives import open_archive, read_member

__all__ = ["read_samples", "samples_for"]


def samples_for(
    data: Samples | AnyPath,
    model: ir.Model,
    preprocess: Preprocess | None,
    limit: int | None = None,
    labels: AnyPath | None = None,
) -> Samples:
    """Return ``data`` if it is samples, else read it from a path with :func:`read_samples`.

    Args:
        limit: largest number of samples to read from a path.
        labels: a file with the names of the classes, one per line, in the order of the model's scores.

    Raises:
        OptionError: ``data`` is neither samples nor a path.
        SamplesError: it cannot be read, or does not fit the model; or there are ``labels`` and no class scores.
    """
    if isinstance(data, Samples):
        return data
    path = as_path(data, "data")
    classifies = score_output(model, labelled=True) is not None
    if labels is not None and not classifies:
        raise SamplesError(f"--labels {labels}: {task_hint(model)}")
    found = read_samples(
        path,
        preprocess,
        sample_shape(model),
        limit,
        channels_last=is_channels_last(model),
        classes=score_count(model, labelled=True),
        names=None if labels is None else read_class_names(as_path(labels, "labels")),
    )
    if found.labels is None or classifies:
        return found
    return replace(found, labels=None, notes=(*found.notes, f"the labels of {path} are not used: {task_hint(model)}"))


def read_samples(
    path: AnyPath,
    preprocess: Preprocess | str | None,
    shape: tuple[int, ...],
    limit: int | None = None,
    *,
    channels_last: bool | None = None,
    classes: int | None = None,
    names: Sequence[str] | None = None,
) -> Samples:
    """Read samples of ``shape``, preprocessed for the model.

    Args:
        path: folder or file; the table above lists the formats.
        preprocess: the conversion of pixels to the input; needed for images and for uint8 arrays.
        shape: shape of one sample, (C, H, W) for images, or (H, W, C).
        limit: largest number of samples, spread evenly over the set; None reads all.
        channels_last: the shape is (H, W, C); None infers that from the shape.
        classes: number of classes of the model; if folders do not match them, there are no labels, and a note says so.
        names: class names in the order of the model's scores; None reads those of ``classes.txt`` in the set.

    Returns:
        float32 ``(N, *shape)``, with int64 (N,) or float32 (N, K) labels if there are any.

    Raises:
        SamplesError: the path cannot be read, or does not fit the model; or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise SamplesError(f"{path}: limit={limit} must be at least 1")
    path, preprocess = as_path(path, "data"), as_preprocess(preprocess)
    is_last = looks_channels_last(shape) if channels_last is None else channels_last
    reader = _SampleReader(path, preprocess, shape, limit, is_last, classes, names)
    if path.is_dir():
        return reader.pictures(folder_pictures(path), partial(_text_of_folder, path))
    if not path.exists():
        way_out = similar_file(path) or "; give images, a zip of images, or an .npz or .npy file"
        raise SamplesError(f"{path}: no such file or folder{way_out}")
    if path.suffix.lower() in (".npz", ".npy"):
        arrays = _read_arrays(path)
        samples = reader.arrays(arrays.images, arrays.labels)
        indices = evenly_spaced(len(arrays.images), limit)
        for name, rows in arrays.extra.items():
            if rows.ndim < 1 or len(rows) != len(arrays.images):
                raise SamplesError(
                    f"{path}: input '{name}' of shape {rows.shape} for {len(arrays.images)} images; one row per image "
                    "is needed"
                )
        extra = {name: selected(rows, indices) for name, rows in arrays.extra.items()}
        return replace(
            samples,
            method=arrays.method,
            synthetic=arrays.synthetic,
            extra=extra,
            preprocess=samples.preprocess or arrays.preprocess,
        )
    if path.suffix.lower() == ".zip":
        try:
            with open_archive(path) as archive:
                return reader.pictures(zip_pictures(archive), partial(_text_of_zip, archive))
        except ValueError as error:
            raise SamplesError(f"{path}: the zip cannot be read ({error}); make it again") from None
    raise SamplesError(f"{path}: neither a folder, a .zip, an .npz nor an .npy file; put the images into a folder")


@dataclass(frozen=True)
class _SampleReader:
    """The arguments of :func:`read_samples`; ``place`` is the path for error messages."""

    place: Path
    preprocess: Preprocess | None
    shape: tuple[int, ...]
    limit: int | None
    channels_last: bool
    classes: int | None
    names: Sequence[str] | None

    def pictures(self, pictures: list[Picture], text: Callable[[str], str | None]) -> Samples:
        """Read image files; ``text`` reads a text file of the set by name, or returns None if it does not exist."""
        if not pictures:
            kinds = ", ".join(sorted(SUFFIXES))
            raise SamplesError(f"{self.place}: no images in it (looked for {kinds}); give the folder that holds them")
        pictures = sorted(pictures, key=lambda picture: picture.name)
        names = self._class_names(text)
        try:
            folder_classes = folder_labels([picture.name.parent.name for picture in pictures], names, self.classes)
        except SamplesError as error:
            raise SamplesError(f"{self.place}: {error}") from None
        indices = evenly_spaced(len(pictures), self.limit)
        fitter = self._fitter()
        images = fitter.of_files((pictures[index] for index in indices), len(indices))
        labels = None if folder_classes.labels is None else folder_classes.labels[indices]
        notes = (*([folder_classes.note] if folder_classes.note else []), *fitter.notes)
        return Samples(images, labels, notes=notes, preprocess=self.preprocess, originals=fitter.originals)

    def _fitter(self) -> PictureFitter:
        return PictureFitter(self.place, self.preprocess, self.shape, self.channels_last)

    def _class_names(self, text: Callable[[str], str | None]) -> Sequence[str] | None:
        if self.names is not None:
            return self._one_for_each_class(self.names)
        contents = ((name, text(name)) for name in CLASS_FILES)
        return next((parse_class_names(body, f"{self.place}/{name}") for name, body in contents if body), None)

    def _one_for_each_class(self, names: Sequence[str]) -> Sequence[str]:
        if self.classes is not None and len(names) != self.classes:
            raise SamplesError(
                f"--labels: {len(names)} class names for the {self.classes} classes of the model; write one name per "
                "line, in the order of the model's scores"
            )
        return names

    def _way_to_fit(self, shape: tuple[int, ...]) -> str:
        """How float arrays of one sample's ``shape`` become those of the model's input."""
        if shape != self.shape and shape[-1:] + shape[:-1] == self.shape:
            return "transpose them: images.transpose(0, 3, 1, 2)"
        return "store them in that shape, or as uint8 pixels, which are resized, and give --preprocess"

    def arrays(self, images: NDArray[Any], labels: NDArray[Any] | None) -> Samples:
        """Convert an array of pixels or of inputs to samples."""
        if images.ndim == 0 or len(images) == 0:
            raise SamplesError(
                f"{self.place}: the array 'images' is empty (shape {images.shape}); store a sample or more"
            )
        if labels is not None and (labels.ndim not in (1, 2) or len(labels) != len(images)):
            raise SamplesError(
                f"{self.place}: 'labels' of shape {labels.shape} do not fit 'images' of shape {images.shape}; "
                "store one label for each image"
            )
        if labels is not None and not np.issubdtype(labels.dtype, np.number):
            raise SamplesError(f"{self.place}: 'labels' are {labels.dtype}; class numbers or soft labels are needed")
        indices, fitter = evenly_spaced(len(images), self.limit), None
        if images.dtype == np.uint8:
            fitter = self._fitter()
            inputs = self._from_pixels(images, indices, fitter)
        elif np.issubdtype(images.dtype, np.floating) or len(self.shape) < 3:
            if images.shape[1:] != self.shape:
                expected = ", ".join(map(str, self.shape))
                raise SamplesError(
                    f"{self.place}: float 'images' of shape {images.shape} do not fit the model's input (N, {expected})"
                    f"; {self._way_to_fit(images.shape[1:])}"
                )
            inputs = images if len(indices) == len(images) else selected(images, indices)
            given = inputs
            with np.errstate(over="ignore"):
                inputs = inputs if inputs.dtype == np.float32 else copied(inputs, np.float32)
            if not _all_finite(inputs):
                problem = "values that float32 does not hold" if _all_finite(given) else "NaN or infinity"
                raise SamplesError(f"{self.place}: {problem} among the values of 'images'; remove these samples")
        else:
            raise SamplesError(f"{self.place}: 'images' are {images.dtype}; uint8 pixels or float32 inputs are needed")
        classes = None if labels is None else self._classes(labels[indices])
        if fitter is None:
            return Samples(inputs, classes)
        return Samples(inputs, classes, notes=fitter.notes, preprocess=self.preprocess, originals=fitter.originals)

    def _classes(self, labels: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.int64]:
        """Convert soft labels (N, K) to float32, and classes (N,) or (N, 1) to int64 (N,)."""
        if not np.isfinite(labels).all():
            raise SamplesError(f"{self.place}: NaN or infinity among the 'labels'; store class numbers")
        if labels.ndim == 2 and labels.shape[1] > 1:
            return labels.astype(np.float32)
        broken = labels[labels != np.rint(labels)]
        if len(broken):
            raise SamplesError(f"{self.place}: {broken[0]:g} among the 'labels' is the number of no class")
        return labels.reshape(-1).astype(np.int64)

    def _from_pixels(
        self, pixels: NDArray[np.uint8], indices: NDArray[np.int64], fitter: PictureFitter
    ) -> NDArray[np.float32]:
        if pixels.ndim == 4 and pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] != 3):
            raise SamplesError(
                f"{self.place}: uint8 'images' have shape {pixels.shape}; (N, H, W, C) with 1 or 3 channels is needed"
            )
        if 0 in pixels.shape[1:]:
            raise SamplesError(f"{self.place}: uint8 'images' have shape {pixels.shape}, which holds no pixels")
        return fitter.of_images((Image.fromarray(loaded(pixels[index])) for index in indices), len(indices))


def _read_arrays(path: Path) -> SampleArrays:
    try:
        return read_arrays(path)
    except NoImages as problem:
        raise SamplesError(f"{path}: {problem}; save it under that name") from None
    except ValueError as problem:
        raise SamplesError(f"{path}: its arrays cannot be read ({problem}); save them again with numpy.savez") from None


def _text_of_folder(path: Path, name: str) -> str | None:
    file = path / name
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def _text_of_zip(archive: zipfile.ZipFile, name: str) -> str | None:
    return read_member(archive, name).decode("utf-8", errors="replace") if name in archive.namelist() else None


def _all_finite(rows: NDArray[Any]) -> bool:
    return all(bool(np.isfinite(loaded(rows[block])).all()) for block in blocks(rows))
