"""Feed and read models with integer inputs and outputs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import channel_shape
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
    def of(cls, metadata: Mapping[str, str]) -> "IntegerTranslation":
        """Read the metadata of a file; without such an entry nothing is converted."""
        return cls(**json.loads(metadata[METADATA])) if METADATA in metadata else cls()

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
            axis = int(entry["axis"])
            low, high = Preprocess(tuple(entry["mean"]), tuple(entry["std"])).bounds(array.shape[axis])
            shape = channel_shape(array.ndim, axis)
            integers = (array - low.reshape(shape)) * 255 / (high - low).reshape(shape)
        else:
            integers = array / np.float32(entry["scale"]) + entry["zero_point"]
        limits = np.iinfo(entry["type"])
        quantized: NDArray[Any] = np.clip(np.rint(integers), limits.min, limits.max).astype(entry["type"])
        return quantized


METADATA = "dfq_deploy.integer_io"
"""Key of the model's metadata with a JSON description of its integers: ``{"inputs": {NAME: ...}, "outputs": ...}``.

Each entry has its ``type`` (``uint8``...) with ``scale`` and ``zero_point``; or, for pixels, with ``mean`` and ``std``
for each channel of ``axis``, in units of pixel / 255.
"""
