"""Find the image files of a folder or zip, and their sizes."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.samples.pictures.decoding import BrokenPicture, opened
from dfq_deploy.samples.pictures.orientation import upright_size
from dfq_deploy.validation.archives import open_archive, read_member
from dfq_deploy.validation.bounds import bounds

__all__ = ["SUFFIXES", "ImageSize", "Picture", "evenly_spaced", "folder_pictures", "image_sizes", "zip_pictures"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})


@dataclass(frozen=True)
class Picture:
    """An image file that is not yet opened: its path inside the set, and a function that returns its bytes.

    The function raises :class:`.BrokenPicture`.
    """

    name: PurePosixPath
    content: Callable[[], bytes]


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def folder_pictures(path: Path) -> list[Picture]:
    files = ((PurePosixPath(file.relative_to(path).as_posix()), file) for file in path.rglob("*"))
    return [Picture(name, partial(_read, file)) for name, file in files if _is_picture(name) and file.is_file()]


def zip_pictures(archive: zipfile.ZipFile) -> list[Picture]:
    names = ((PurePosixPath(name), name) for name in archive.namelist())
    return [Picture(path, partial(_unpacked, archive, name)) for path, name in names if _is_picture(path)]


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return read_member(archive, name, dense=True)
    except ValueError as problem:
        raise BrokenPicture(f"cannot be unpacked ({problem}); make the zip again") from None


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > bounds().memory:
            raise BrokenPicture(f"has {file.stat().st_size:,} bytes, the limit is {bounds().memory:,}; remove it")
        return file.read_bytes()
    except OSError as problem:
        raise BrokenPicture(f"cannot be read ({problem.strerror or problem}); remove it") from None


def evenly_spaced(count: int, limit: int | None) -> NDArray[np.int64]:
    """Return at most ``limit`` of ``count`` indices, evenly spaced: the first images of a folder are of one class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


@dataclass(frozen=True)
class ImageSize:
    """The path of an image inside its set, and its width and height in pixels, upright."""

    name: PurePosixPath
    width: int
    height: int


def image_sizes(path: Path, limit: int | None = None) -> tuple[ImageSize, ...]:
    """The images that :func:`dfq_deploy.samples.image_folder.read_samples` reads, in its order.

    Only headers are read, and a PNG as a whole, since its EXIF block may come last.

    Raises:
        SamplesError: the path holds no images, or one cannot be read.
    """
    if path.is_dir():
        return _sizes(path, folder_pictures(path), limit)
    if path.suffix.lower() != ".zip" or not path.is_file():
        raise SamplesError(f"{path}: boxes belong to files of images; give a folder or a zip of images")
    try:
        with open_archive(path) as archive:
            return _sizes(path, zip_pictures(archive), limit)
    except ValueError as error:
        raise SamplesError(f"{path}: the zip cannot be read ({error}); make it again") from None


def _sizes(place: Path, pictures: list[Picture], limit: int | None) -> tuple[ImageSize, ...]:
    pictures = sorted(pictures, key=lambda picture: picture.name)
    sizes = []
    for index in evenly_spaced(len(pictures), limit):
        try:
            with opened(pictures[index].content()) as image:
                sizes.append(ImageSize(pictures[index].name, *upright_size(image)))
        except BrokenPicture as problem:
            raise SamplesError(f"{place}: image '{pictures[index].name}' {problem}") from None
    return tuple(sizes)
