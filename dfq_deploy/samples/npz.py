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

__all__ = ["FORMAT_VERSION", "INPUT", "NoImages", "Stored", "read_arrays", "stored_shapes", "write_arrays"]

FORMAT_VERSION = 1
"""Of the files that are written; files without a version, of before there was one, are read as well."""

INPUT = "input:"
"""How the names of arrays begin in the file that belong to inputs beside the main one."""


class NoImages(ValueError):  # noqa: N818 - says what is missing
    """The archive has no array ``images``; the message lists those that it has."""


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds, in the types that it has there.

    Args:
        images: uint8 pixels, or the model's main input.
        labels: class numbers (N,) or soft labels (N, K).
        method: the synthesis method; empty for real data.
        extra: the model's other inputs by name.
        preprocess: what turns pixels into ``images``, where the file says so.
        synthetic: whether the samples were synthesized; None: those of a ``method`` were.
        named: False for an .npy, which holds one array without a name.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    method: str = ""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    synthetic: bool | None = None
    named: bool = True


def read_arrays(path: Path) -> Stored:
    """Read a file.

    Raises:
        NoImages: there is no array ``images``.
        ValueError: it cannot be read, or is of a newer format version.
    """
    try:
        # np.load leaves a file open that it opened itself and found to be broken.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return _members(loaded) if isinstance(loaded, NpzFile) else Stored(loaded, named=False)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, DfqError) as problem:
        raise ValueError(str(problem)) from None


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of one sample of each input in a file, by name, from the headers alone; the main input's name is empty.

    Empty where the file has none that can be read, which :func:`read_arrays` says.
    """
    if path.suffix.lower() not in (".npz", ".npy") or not path.is_file():
        return {}
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return {"": _shape(stream)[1:]}
        with zipfile.ZipFile(path) as archive:
            found = {}
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name == "images" or name.startswith(INPUT):
                    with archive.open(member) as stream:
                        found["" if name == "images" else name.removeprefix(INPUT)] = _shape(stream)[1:]
            return found
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return {}


def _shape(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(stream)[0]
    return shape


def _members(archive: NpzFile) -> Stored:
    version = int(archive.get("format_version", FORMAT_VERSION))
    if version > FORMAT_VERSION:
        raise ValueError(f"its format version is {version}, and this dfq-deploy reads up to {FORMAT_VERSION}: upgrade")
    if "images" not in archive:
        raise NoImages(f"no array 'images' in it (arrays: {', '.join(archive.files) or 'none'})")
    preprocess = None
    if "mean" in archive and "std" in archive:
        preprocess = Preprocess(tuple(archive["mean"].tolist()), tuple(archive["std"].tolist()))
    return Stored(
        archive["images"],
        archive.get("labels"),
        str(archive.get("method", "")),
        {name.removeprefix(INPUT): archive[name] for name in archive.files if name.startswith(INPUT)},
        preprocess,
        bool(archive["synthetic"]) if "synthetic" in archive else None,
    )


def write_arrays(path: Path, stored: Stored) -> None:
    """Write an uncompressed .npz, whole or not at all; the same arrays give the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"images": stored.images}
    if stored.labels is not None:
        arrays["labels"] = stored.labels
    if stored.method:
        arrays["method"] = np.array(stored.method)
    arrays.update((f"{INPUT}{name}", rows) for name, rows in stored.extra.items())
    arrays["format_version"] = np.array(FORMAT_VERSION)
    if stored.synthetic is not None:
        arrays["synthetic"] = np.array(stored.synthetic)
    if stored.preprocess is not None:
        arrays |= {"mean": np.array(stored.preprocess.mean), "std": np.array(stored.preprocess.std)}
    with atomic_file(path) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
