"""Read and write the arrays of a samples file (.npz or .npy).

docs/formats.md describes the members of the file.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import OptionError
from dfq_deploy.files.arrays import IN_MEMORY, blocks, release
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.validation.archives import BROKEN, check_member, open_archive
from dfq_deploy.validation.arrays import array_header, read_array
from dfq_deploy.validation.bounds import bounds

__all__ = ["FORMAT_VERSION", "INPUT", "NoImages", "SampleArrays", "read_arrays", "stored_shapes", "write_arrays"]

FORMAT_VERSION = 1
"""Format version of written files; older files without a version are read as well."""

ZIP_MAGIC = b"PK\x03\x04"

SINGLE = ("format_version", "method", "synthetic", "mean", "std")
"""Members that are not one row a sample."""

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
    """Read the arrays of a file; members that no sample set has stay unread.

    Raises:
        NoImages: the file has no array ``images``.
        ValueError: the file cannot be read, a member has a type or a shape that it cannot have or takes more than the
            memory in :class:`.Bounds`, or the format version is newer; the message names the member.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(4) == ZIP_MAGIC
            stream.seek(0)
            if not packed:
                return SampleArrays(read_array(stream, path.name, path.stat().st_size), named=False)
        with open_archive(path) as archive:
            return _members(archive)
    except OSError as problem:
        raise ValueError(problem.strerror or str(problem)) from None


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of one sample of each input by name, from the headers only; the main input's name is empty.

    Empty if the file cannot be read; :func:`read_arrays` raises the error.
    """
    if path.suffix.lower() not in (".npz", ".npy") or not path.is_file():
        return {}
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return {"": array_header(stream, path.name).shape[1:]}
        with open_archive(path) as archive:
            names = {member: member.removesuffix(".npy") for member in archive.namelist()}
            return {
                "" if name == "images" else name.removeprefix(INPUT): _stored_shape(archive, member, name)
                for member, name in names.items()
                if name == "images" or name.startswith(INPUT)
            }
    except BROKEN:
        return {}


def _stored_shape(archive: zipfile.ZipFile, member: str, name: str) -> tuple[int, ...]:
    check_member(archive.getinfo(member))
    with archive.open(member) as stream:
        return array_header(stream, name).shape[1:]


def _members(archive: zipfile.ZipFile) -> SampleArrays:
    names = [member.removesuffix(".npy") for member in archive.namelist()]
    wanted = {name for name in names if name in SINGLE or name in ("images", "labels") or name.startswith(INPUT)}
    _check_total(archive, names, wanted)
    arrays = {name: _member(archive, name) for name in names if name in SINGLE and name in wanted}
    version = _single(arrays, "format_version", "iu", FORMAT_VERSION)
    if version > FORMAT_VERSION:
        raise ValueError(f"its format version is {version}, and this dfq-deploy reads up to {FORMAT_VERSION}: upgrade")
    if "images" not in wanted:
        raise NoImages(f"no array 'images' in it (arrays: {', '.join(names[:20])[:200] or 'none'})")
    synthetic = _single(arrays, "synthetic", "b", None)
    return SampleArrays(
        _member(archive, "images"),
        _member(archive, "labels") if "labels" in wanted else None,
        str(_single(arrays, "method", "U", "")),
        {name.removeprefix(INPUT): _member(archive, name) for name in names if name.startswith(INPUT)},
        _preprocess(arrays),
        None if synthetic is None else bool(synthetic),
    )


def _check_total(archive: zipfile.ZipFile, names: list[str], wanted: set[str]) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise ValueError(f"array '{name}' is in it twice")
    sizes = [member.file_size for member, name in zip(archive.infolist(), names, strict=True) if name in wanted]
    if sum(sizes) > bounds().memory:
        raise ValueError(
            f"they take {sum(sizes):,} bytes, the limit is {bounds().memory:,}: store fewer samples, or raise "
            "--max-memory"
        )


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
    check_member(member)
    try:
        with archive.open(member) as stream:
            return read_array(stream, name, member.file_size)
    except ValueError:
        raise
    except BROKEN as problem:
        raise ValueError(f"array '{name}' is damaged: {' '.join(str(problem).split())[:120]}") from None


def _single(arrays: Mapping[str, NDArray[Any]], name: str, kinds: str, otherwise: Any) -> Any:
    """The one value of an array whose element type is one of ``kinds`` (NumPy's letters)."""
    if name not in arrays:
        return otherwise
    array = arrays[name]
    if array.shape != () or array.dtype.kind not in kinds:
        raise ValueError(f"'{name}' is an array {array.shape} of {array.dtype}, not a single value")
    return array.item()


def _preprocess(arrays: Mapping[str, NDArray[Any]]) -> Preprocess | None:
    if not {"mean", "std"} <= arrays.keys():
        return None
    for name in ("mean", "std"):
        if arrays[name].ndim != 1 or arrays[name].dtype.kind not in "fiu":
            raise ValueError(
                f"'{name}' is an array {arrays[name].shape} of {arrays[name].dtype}, not a number a channel"
            )
    try:
        return Preprocess(tuple(arrays["mean"].tolist()), tuple(arrays["std"].tolist()))
    except OptionError as problem:
        raise ValueError(str(problem)) from None


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
    with atomic_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                _write(stream, array)


def _write(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Write an array as an .npy file, a large one block by block."""
    if array.nbytes <= IN_MEMORY or not array.ndim:
        np.lib.format.write_array(stream, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
        return
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for block in blocks(array):
        stream.write(np.ascontiguousarray(array[block]).data)
        release(array)
