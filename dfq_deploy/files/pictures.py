"""Find the image files of a folder or zip, and their sizes."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.errors import SamplesError

__all__ = ["SUFFIXES", "ImageSize", "Picture", "evenly_spaced", "folder_pictures", "image_sizes", "zip_pictures"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})


@dataclass(frozen=True)
class Picture:
    """An image file that is not yet opened: its path inside the set, and a function that returns its bytes."""

    name: PurePosixPath
    content: Callable[[], bytes]


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def folder_pictures(path: Path) -> list[Picture]:
    files = ((PurePosixPath(file.relative_to(path).as_posix()), file) for file in path.rglob("*"))
    return [Picture(name, file.read_bytes) for name, file in files if _is_picture(name) and file.is_file()]


def zip_pictures(archive: zipfile.ZipFile) -> list[Picture]:
    names = ((PurePosixPath(name), name) for name in archive.namelist())
    return [Picture(path, partial(archive.read, name)) for path, name in names if _is_picture(path)]


def evenly_spaced(count: int, limit: int | None) -> NDArray[np.int64]:
    """Return at most ``limit`` of ``count`` indices, evenly spaced: the first images of a folder are of one class."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


@dataclass(frozen=True)
class ImageSize:
    """The path of an image inside its set, and its width and height in pixels."""

    name: PurePosixPath
    width: int
    height: int


def image_sizes(path: Path, limit: int | None = None) -> tuple[ImageSize, ...]:
    """The images that :func:`dfq_deploy.samples.image_folder.read_samples` reads, in its order; only headers are read.

    Raises:
        SamplesError: the path holds no images, or one cannot be read.
    """
    if path.is_dir():
        return _sizes(path, folder_pictures(path), limit)
    if path.suffix.lower() != ".zip" or not path.is_file():
        raise SamplesError(f"{path}: boxes belong to files of images; give a folder or a zip of images")
    try:
        with zipfile.ZipFile(path) as archive:
            return _sizes(path, zip_pictures(archive), limit)
    except (zipfile.BadZipFile, OSError) as error:
        raise SamplesError(f"{path}: the zip cannot be read ({error}); make it again") from None


def _sizes(place: Path, pictures: list[Picture], limit: int | None) -> tuple[ImageSize, ...]:
    pictures = sorted(pictures, key=lambda picture: picture.name)
    sizes = []
    for index in evenly_spaced(len(pictures), limit):
        try:
            with Image.open(io.BytesIO(pictures[index].content())) as image:
                sizes.append(ImageSize(pictures[index].name, *image.size))
        except (OSError, ValueError, SyntaxError) as problem:
            raise SamplesError(
                f"{place}: image '{pictures[index].name}' cannot be read ({problem}); remove it"
            ) from None
    return tuple(sizes)
