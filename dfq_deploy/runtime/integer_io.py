"""Feed and read models that take bytes and write integers."""

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
    """Between a network's floats and a file's integers, as the file's metadata tells them.

    Args:
        inputs: name -> ``mean`` and ``std`` of pixels, or ``scale`` and ``zero_point``; with the integers' ``type``.
        outputs: name -> ``type``, ``scale`` and ``zero_point``.
    """

    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "IntegerTranslation":
        """What the metadata of a file says; a file without such an entry is not translated."""
        return cls(**json.loads(metadata[METADATA])) if METADATA in metadata else cls()

    def to_integers(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs of the network as the file takes them: rounded, and clipped to what its type holds."""
        return {name: self._fed(name, array) if name in self.inputs else array for name, array in feeds.items()}

    def to_floats(self, names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of the file as the network means them."""
        found = []
        for name, array in zip(names, arrays, strict=True):
            entry = self.outputs.get(name)
            floats = array
            if entry is not None:
                floats = (array.astype(np.float32) - entry["zero_point"]) * np.float32(entry["scale"])
            found.append(floats)
        return found

    def _fed(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        entry = self.inputs[name]
        if "mean" in entry:
            axis = int(entry["axis"])
            low, high = Preprocess(tuple(entry["mean"]), tuple(entry["std"])).bounds(array.shape[axis])
            shape = channel_shape(array.ndim, axis)
            integers = (array - low.reshape(shape)) * 255 / (high - low).reshape(shape)
        else:
            integers = array / np.float32(entry["scale"]) + entry["zero_point"]
        limits = np.iinfo(entry["type"])
        fed: NDArray[Any] = np.clip(np.rint(integers), limits.min, limits.max).astype(entry["type"])
        return fed


METADATA = "dfq_deploy.integer_io"
"""Key of the model's metadata whose JSON says what the integers mean: ``{"inputs": {NAME: ...}, "outputs": ...}``.

Each entry has its ``type`` (``uint8``...) with ``scale`` and ``zero_point``; or, for pixels, with ``mean`` and ``std``
for each channel of ``axis``, in units of pixel / 255.
"""
