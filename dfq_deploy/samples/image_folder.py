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
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import ExtraInputs, looks_channels_last
from dfq_deploy.samples.labels import CLASS_FILES, folder_labels, parse_class_names
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import INPUT, Samples

__all__ = ["read_samples"]

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

MEMORY_SHARE = 0.5
"""No set may take more of the machine's memory than this."""


def read_samples(
    path: Path,
    preprocess: Preprocess | None,
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
        float32 (N, *shape), with int64 (N,) or float32 (N, K) labels where there are any.

    Raises:
        SamplesError: it cannot be read, or does not fit the model.
    """
    last = looks_channels_last(shape) if turned is None else turned
    reading = _Reading(path, preprocess, shape, limit, last, classes, names)
    if path.is_dir():
        return reading.pictures(_folder(path), partial(_text_of_folder, path))
    if not path.exists():
        raise SamplesError(f"{path}: no such file or folder; give images, a zip of images, or an .npz or .npy file")
    if path.suffix.lower() in (".npz", ".npy"):
        images, labels, method, extra = _arrays(path)
        found = reading.arrays(images, labels)
        chosen = _spread(len(images), limit)
        return replace(found, method=method, extra={name: rows[chosen] for name, rows in extra.items()})
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
        return Samples(images, labels, notes=(found.note,) if found.note else ())

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
        return Samples(inputs, None if labels is None else _labels(labels[chosen]))

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
        return image

    def _refuse_giant(self, count: int) -> None:
        needed = count * int(np.prod(self.shape)) * 4
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > MEMORY_SHARE * memory:
            fitting = int(MEMORY_SHARE * memory / needed * count)
            raise SamplesError(
                f"{self.place}: {count} images of {self.shape} take {needed / 2**30:.1f} GiB of memory; "
                f"take at most {fitting}, with --samples"
            )


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def _folder(path: Path) -> list[_Picture]:
    files = ((PurePosixPath(file.relative_to(path).as_posix()), file) for file in path.rglob("*"))
    return [_Picture(name, file.read_bytes) for name, file in files if _is_picture(name) and file.is_file()]


def _zipped(archive: zipfile.ZipFile) -> list[_Picture]:
    names = ((PurePosixPath(name), name) for name in archive.namelist())
    return [_Picture(path, partial(archive.read, name)) for path, name in names if _is_picture(path)]


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None, str, ExtraInputs]:
    """Images, labels, the name of the method where they were synthesized, and the model's other inputs."""
    try:
        # np.load leaves a file open that it opened itself and found to be broken.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None, "", {}
            if "images" not in loaded:
                keys = ", ".join(loaded.files) or "none"
                raise SamplesError(f"{path}: no array 'images' in it (arrays: {keys}); save it under that name")
            extra = {name.removeprefix(INPUT): loaded[name] for name in loaded.files if name.startswith(INPUT)}
            return loaded["images"], loaded.get("labels"), str(loaded.get("method", "")), extra
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
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
