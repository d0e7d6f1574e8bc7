"""Read images from a folder or zip, or arrays from .npz and .npy.

============================  =====================================================================
folder, .zip                  images; sub-folders are classes (:mod:`dfq_deploy.samples.labels`): by number, by
                              name in sorted order, or as ``classes.txt`` beside them says
.npz                          ``images`` and, optionally, ``labels``; ``input:NAME`` for each other input of the model
.npy                          images alone
uint8 (N, H, W[, C])          preprocessed, resized and converted to the model's channels
float (N, C, H, W), (N, ...)  taken as they are: already the model's input, as are integers of rank 3 or less
============================  =====================================================================
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.memory import physical_memory
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import is_channels_last, looks_channels_last, sample_shape
from dfq_deploy.graph.query import score_count
from dfq_deploy.graph.task import score_output, task_hint
from dfq_deploy.samples.labels import CLASS_FILES, folder_labels, parse_class_names, read_class_names
from dfq_deploy.samples.npz import NoImages, Stored, read_arrays
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["read_samples", "samples_for"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})

MODES = {1: "L", 3: "RGB"}
"""Pillow's name for an image of so many channels."""

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    Image.DecompressionBombError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Pillow and zipfile raise for broken, giant or encrypted files (UnidentifiedImageError is an OSError)."""

LARGEST_16_BIT = 65535

MEMORY_SHARE = 0.5
"""No set may take more of the machine's memory than this."""


def samples_for(
    data: Samples | AnyPath,
    model: ir.Model,
    preprocess: Preprocess | None,
    limit: int | None = None,
    labels: AnyPath | None = None,
) -> Samples:
    """Samples for ``model``: those that are given, or what :func:`read_samples` finds at a path.

    Args:
        limit: take at most so many of what lies at a path.
        labels: a file with the names of the classes, one a line, in the order of the model's scores.

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
        turned=is_channels_last(model),
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
    turned: bool | None = None,
    classes: int | None = None,
    names: Sequence[str] | None = None,
) -> Samples:
    """Inputs for a model whose samples have ``shape``, in the model's own input space.

    Args:
        path: what to read; the table above says what may stand there.
        preprocess: what turns pixels into the input; needed for images and for uint8 arrays.
        shape: one sample, (C, H, W) for images, or (H, W, C).
        limit: take at most so many, spread evenly over the set; None takes all.
        turned: the shape is (H, W, C); None finds that out from its numbers.
        classes: how many the model has; folders that cannot be those give no labels, and a note says so.
        names: of the classes, in the order of the model's scores; None takes those of ``classes.txt`` in the set.

    Returns:
        float32 ``(N, *shape)``, with int64 (N,) or float32 (N, K) labels where there are any.

    Raises:
        SamplesError: it cannot be read, or does not fit the model; or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise SamplesError(f"{path}: at most {limit} samples asked for, at least 1 is needed")
    path, preprocess = as_path(path, "data"), as_preprocess(preprocess)
    last = looks_channels_last(shape) if turned is None else turned
    reading = _Reading(path, preprocess, shape, limit, last, classes, names)
    if path.is_dir():
        return reading.pictures(_folder(path), partial(_text_of_folder, path))
    if not path.exists():
        raise SamplesError(f"{path}: no such file or folder; give images, a zip of images, or an .npz or .npy file")
    if path.suffix.lower() in (".npz", ".npy"):
        stored = _stored(path)
        found = reading.arrays(stored.images, stored.labels)
        chosen = _spread(len(stored.images), limit)
        extra = {name: rows[chosen] for name, rows in stored.extra.items()}
        return replace(
            found,
            method=stored.method,
            synthetic=stored.synthetic,
            extra=extra,
            preprocess=found.preprocess or stored.preprocess,
        )
    if path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                return reading.pictures(_zipped(archive), partial(_text_of_zip, archive))
        except (zipfile.BadZipFile, OSError) as problem:
            raise SamplesError(f"{path}: the zip cannot be read ({problem}); make it again") from None
    raise SamplesError(f"{path}: neither a folder, a .zip, an .npz nor an .npy file; put the images into a folder")


@dataclass(frozen=True)
class _Picture:
    """An image file that is not yet opened: its path inside the set, and what gives its bytes."""

    name: PurePosixPath
    content: Callable[[], bytes]


@dataclass(frozen=True)
class _Reading:
    """What :func:`read` was asked for; ``place`` is the path that errors name."""

    place: Path
    preprocess: Preprocess | None
    shape: tuple[int, ...]
    limit: int | None
    turned: bool
    classes: int | None
    names: Sequence[str] | None

    def pictures(self, pictures: list[_Picture], text: Callable[[str], str | None]) -> Samples:
        """Samples of image files; ``text`` reads a text file of the set, where there is one of that name."""
        if not pictures:
            raise SamplesError(f"{self.place}: no images in it (looked for {', '.join(sorted(SUFFIXES))})")
        pictures = sorted(pictures, key=lambda picture: picture.name)
        named = self._class_names(text)
        try:
            found = folder_labels([picture.name.parent.name for picture in pictures], named, self.classes)
        except SamplesError as problem:
            raise SamplesError(f"{self.place}: {problem}") from None
        chosen = _spread(len(pictures), self.limit)
        images = self._prepared((self._decoded(pictures[index]) for index in chosen), len(chosen))
        labels = None if found.labels is None else found.labels[chosen]
        return Samples(images, labels, notes=(found.note,) if found.note else (), preprocess=self.preprocess)

    def _class_names(self, text: Callable[[str], str | None]) -> Sequence[str] | None:
        if self.names is not None:
            return self.names
        contents = ((name, text(name)) for name in CLASS_FILES)
        return next((parse_class_names(body, f"{self.place}/{name}") for name, body in contents if body), None)

    def arrays(self, images: NDArray[Any], labels: NDArray[Any] | None) -> Samples:
        """Samples of an array of pixels or of inputs."""
        if images.ndim == 0 or len(images) == 0:
            raise SamplesError(f"{self.place}: the array 'images' is empty (shape {images.shape})")
        if labels is not None and (labels.ndim not in (1, 2) or len(labels) != len(images)):
            raise SamplesError(
                f"{self.place}: 'labels' of shape {labels.shape} do not fit 'images' of shape {images.shape}"
            )
        if labels is not None and not np.issubdtype(labels.dtype, np.number):
            raise SamplesError(f"{self.place}: 'labels' are {labels.dtype}; class numbers or soft labels are needed")
        chosen = _spread(len(images), self.limit)
        if images.dtype == np.uint8:
            inputs = self._of_pixels(images[chosen])
        elif np.issubdtype(images.dtype, np.floating) or len(self.shape) < 3:
            if images.shape[1:] != self.shape:
                wanted = ", ".join(map(str, self.shape))
                raise SamplesError(
                    f"{self.place}: float 'images' of shape {images.shape} do not fit the model's input (N, {wanted})"
                )
            inputs = images[chosen].astype(np.float32, copy=False)
        else:
            raise SamplesError(f"{self.place}: 'images' are {images.dtype}; uint8 pixels or float32 inputs are needed")
        known = self.preprocess if images.dtype == np.uint8 else None
        return Samples(inputs, None if labels is None else _labels(labels[chosen]), preprocess=known)

    def _of_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if pixels.ndim == 4 and pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] != 3):
            raise SamplesError(
                f"{self.place}: uint8 'images' have shape {pixels.shape}; (N, H, W, C) with 1 or 3 channels is needed"
            )
        return self._prepared((Image.fromarray(image) for image in pixels), len(pixels))

    def _prepared(self, images: Iterable[Image.Image], count: int) -> NDArray[np.float32]:
        """The model's float32 (N, C, H, W) or (N, H, W, C): converted, resized to cover, centre cropped, normalized."""
        if self.preprocess is None:
            raise SamplesError(
                f"{self.place}: images need to know how pixels become the model's input; "
                f"add --preprocess {'|'.join(PREPROCESSES)} or --mean and --std"
            )
        if len(self.shape) != 3 or self.shape[-1 if self.turned else 0] not in MODES:
            raise SamplesError(
                f"{self.place}: images cannot feed an input of shape {self.shape} (1 or 3 channels are needed); "
                f"give an .npz of float32 'images' of shape (N, {', '.join(map(str, self.shape))})"
            )
        self._refuse_giant(count)
        height, width, channels = self.shape if self.turned else (*self.shape[1:], self.shape[0])
        inputs = np.empty((count, *self.shape), np.float32)
        for index, image in enumerate(images):
            fitted = ImageOps.fit(image.convert(MODES[channels]), (width, height), Image.Resampling.BILINEAR)
            try:
                applied = self.preprocess.apply(np.asarray(fitted).reshape(1, height, width, channels))[0]
                inputs[index] = applied.transpose(1, 2, 0) if self.turned else applied
            except SamplesError as problem:
                raise SamplesError(f"{self.place}: {problem}") from None
        return inputs

    def _decoded(self, picture: _Picture) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(picture.content()))
            image.load()
        except UNREADABLE as problem:
            reason = "not an image that Pillow knows" if isinstance(problem, UnidentifiedImageError) else problem
            raise SamplesError(f"{self.place}: image '{picture.name}' cannot be read ({reason}); take it out") from None
        try:
            return _with_eight_bits(image)
        except ValueError as problem:
            raise SamplesError(
                f"{self.place}: image '{picture.name}' {problem}; save it with 8 or 16 bits a channel, or give an .npz "
                "of float32 'images' that are the model's input"
            ) from None

    def _refuse_giant(self, count: int) -> None:
        needed = count * int(np.prod(self.shape)) * 4
        memory = physical_memory()
        if memory is not None and needed > MEMORY_SHARE * memory:
            fitting = int(MEMORY_SHARE * memory / needed * count)
            raise SamplesError(
                f"{self.place}: {count} images of {self.shape} take {needed / 2**30:.1f} GiB of memory; "
                f"take at most {fitting}, with --samples"
            )


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """``image`` with 8 bits a channel: 65535 of 16 bits becomes 255, where Pillow's own conversion cuts at 255.

    Pillow itself does so for 16-bit images of several channels when it reads them.

    Raises:
        ValueError: its values have no known range.
    """
    if image.mode == "F":
        raise ValueError("holds floating-point values, whose range is not known")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > LARGEST_16_BIT:
        raise ValueError(f"holds values from {values.min()} to {values.max()}, beyond 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def _folder(path: Path) -> list[_Picture]:
    files = ((PurePosixPath(file.relative_to(path).as_posix()), file) for file in path.rglob("*"))
    return [_Picture(name, file.read_bytes) for name, file in files if _is_picture(name) and file.is_file()]


def _zipped(archive: zipfile.ZipFile) -> list[_Picture]:
    names = ((PurePosixPath(name), name) for name in archive.namelist())
    return [_Picture(path, partial(archive.read, name)) for path, name in names if _is_picture(path)]


def _stored(path: Path) -> Stored:
    try:
        return read_arrays(path)
    except NoImages as problem:
        raise SamplesError(f"{path}: {problem}; save it under that name") from None
    except ValueError as problem:
        raise SamplesError(f"{path}: its arrays cannot be read ({problem}); save them again") from None


def _text_of_folder(path: Path, name: str) -> str | None:
    file = path / name
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def _text_of_zip(archive: zipfile.ZipFile, name: str) -> str | None:
    return archive.read(name).decode("utf-8", errors="replace") if name in archive.namelist() else None


def _spread(count: int, limit: int | None) -> NDArray[np.int64]:
    """At most ``limit`` of ``count`` indices, evenly: the first images of a sorted folder are one class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def _labels(labels: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.int64]:
    """Soft labels (N, K) as float32, classes (N,) as int64; (N, 1) is (N,)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.astype(np.float32)
    return labels.reshape(-1).astype(np.int64)
