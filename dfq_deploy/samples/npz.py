"""Read and write the arrays of a samples file (.npz or .npy).

docs/formats.md describes the members of the file.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from dfq_deploy.errors import DfqError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["FORMAT_VERSION", "INPUT", "NoImages", "SampleArrays", "read_arrays", "stored_shapes", "write_arrays"]

FORMAT_VERSION = 1
"""Format version of written files; older files without a version are read as well."""

INPUT = "input:"
"""Prefix of array names in the file for inputs other than the main one."""


class NoImages(ValueError):  # noqa: N818 - says what is missing
    """The archive has no array ``images``; the message lists its arrays."""


@dataclass(frozen=True, eq=False)
class SampleArrays:
    """The arrays of a samples file, in the types of the file.

    Args:
        images: uint8 pixels, or the model's main input.
        labels: class numbers (N,) or soft labels (N, K).
        method: the synthesis method; empty for real data.
        extra: the other inputs of the model by name.
        preprocess: the conversion of pixels to ``images``, if the file has it.
        synthetic: whether the samples were synthesized; None if that follows from ``method``.
        named: False for an .npy file, which holds one array without a name.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    method: str = ""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    synthetic: bool | None = None
    named: bool = True


def read_arrays(path: Path) -> SampleArrays:
    """Read the arrays of a file.

    Raises:
        NoImages: the file has no array ``images``.
        ValueError: the file cannot be read, or has a newer format version.
    """
    try:
        # np.load does not close a broken file that it opened itself.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return _members(loaded) if isinstance(loaded, NpzFile) else SampleArrays(loaded, named=False)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, DfqError) as problem:
        raise ValueError(str(problem)) from None


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of one sample of each input by name, from the headers only; the main input's name is empty.

    Empty if the file cannot be read; :func:`read_arrays` raises the error.
    """
    if path.suffix.lower() not in (".npz", ".npy") or not path.is_file():
        return {}
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return {"": _shape(stream)[1:]}
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name == "images" or name.startswith(INPUT):
                    with archive.open(member) as stream:
                        shapes["" if name == "images" else name.removeprefix(INPUT)] = _shape(stream)[1:]
            return shapes
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return {}


def _shape(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(stream)[0]
    return shape


def _members(archive: NpzFile) -> SampleArrays:
    version = int(archive.get("format_version", FORMAT_VERSION))
    if version > FORMAT_VERSION:
        raise ValueError(f"its format version is {version}, and this dfq-deploy reads up to {FORMAT_VERSION}: upgrade")
    if "images" not in archive:
        raise NoImages(f"no array 'images' in it (arrays: {', '.join(archive.files) or 'none'})")
    preprocess = None
    if "mean" in archive and "std" in archive:
        preprocess = Preprocess(tuple(archive["mean"].tolist()), tuple(archive["std"].tolist()))
    return SampleArrays(
        archive["images"],
        archive.get("labels"),
        str(archive.get("method", "")),
        {name.removeprefix(INPUT): archive[name] for name in archive.files if name.startswith(INPUT)},
        preprocess,
        bool(archive["synthetic"]) if "synthetic" in archive else None,
    )


def write_arrays(path: Path, samples: SampleArrays) -> None:
    """Write an uncompressed .npz file atomically; equal arrays give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"images": samples.images}
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    if samples.method:
        arrays["method"] = np.array(samples.method)
    arrays.update((f"{INPUT}{name}", rows) for name, rows in samples.extra.items())
    arrays["format_version"] = np.array(FORMAT_VERSION)
    if samples.synthetic is not None:
        arrays["synthetic"] = np.array(samples.synthetic)
    if samples.preprocess is not None:
        arrays |= {"mean": np.array(samples.preprocess.mean), "std": np.array(samples.preprocess.std)}
    with atomic_file(path) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
