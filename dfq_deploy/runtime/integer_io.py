"""Feed and read models with integer inputs and outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import channel_shape
from dfq_deploy.errors import DfqError, ModelError, one_line
from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["METADATA", "IntegerTranslation"]


@dataclass(frozen=True)
class IntegerTranslation:
    """Converts between floats of the network and integers of the file, as its metadata describes.

    Args:
        inputs: name -> ``mean`` and ``std`` of pixels, or ``scale`` and ``zero_point``; with the integer ``type``.
        outputs: name -> ``type``, ``scale`` and ``zero_point``.
    """

    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, str], file: str) -> "IntegerTranslation":
        """Read the metadata of ``file``; without such an entry nothing is converted.

        Raises:
            ModelError: the entry is not what this package writes.
        """
        if METADATA not in metadata:
            return cls()
        try:
            document = dict(parsed_json(metadata[METADATA]))
            found = {
                kind: {str(name): _checked(entry) for name, entry in document.pop(kind, {}).items()}
                for kind in ("inputs", "outputs")
            }
            if document:
                raise ValueError(f"it has no entry '{next(iter(document))}'")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, DfqError) as problem:
            raise ModelError(
                f"{file}: its metadata '{METADATA}' cannot be read ({one_line(problem, 100)}); remove that entry, or "
                "write the file again"
            ) from None
        return cls(**found)

    def to_integers(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Convert float inputs to the integers of the file: rounded, and clipped to the range of their type."""
        return {name: self._quantized(name, array) if name in self.inputs else array for name, array in feeds.items()}

    def to_floats(self, names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Convert integer outputs of the file to floats."""
        converted = []
        for name, array in zip(names, arrays, strict=True):
            entry = self.outputs.get(name)
            floats = array
            if entry is not None:
                floats = (array.astype(np.float32) - entry["zero_point"]) * np.float32(entry["scale"])
            converted.append(floats)
        return converted

    def _quantized(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        entry = self.inputs[name]
        if "mean" in entry:
            axis = entry["axis"]
            if not -array.ndim <= axis < array.ndim:
                raise ModelError(f"'{name}': its metadata '{METADATA}' has axis {axis}, and it has {array.ndim} axes")
            low, high = Preprocess(tuple(entry["mean"]), tuple(entry["std"])).bounds(array.shape[axis])
            shape = channel_shape(array.ndim, axis)
            integers = (array - low.reshape(shape)) * 255 / (high - low).reshape(shape)
        else:
            integers = array / np.float32(entry["scale"]) + entry["zero_point"]
        limits = np.iinfo(entry["type"])
        quantized: NDArray[Any] = np.clip(np.rint(integers), limits.min, limits.max).astype(entry["type"])
        return quantized


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of an input or output, with numbers as numbers."""
    known: dict[str, Any] = {"type": np.iinfo(entry["type"]).dtype.name}
    if "mean" in entry:
        pixels = Preprocess(tuple(map(float, entry["mean"])), tuple(map(float, entry["std"])))
        return {**known, "axis": int(entry["axis"]), "mean": pixels.mean, "std": pixels.std}
    scale = float(entry["scale"])
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale {scale}")
    return {**known, "scale": scale, "zero_point": int(entry["zero_point"])}


METADATA = "dfq_deploy.integer_io"
"""Key of the model's metadata with a JSON description of its integers: ``{"inputs": {NAME: ...}, "outputs": ...}``.

Each entry has its ``type`` (``uint8``...) with ``scale`` and ``zero_point``; or, for pixels, with ``mean`` and ``std``
for each channel of ``axis``, in units of pixel / 255.
"""
