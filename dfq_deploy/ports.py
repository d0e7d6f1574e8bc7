"""What a model is fed: its inputs, which of them is the main one, and arrays made ready for all of them.

The same few rules serve a graph and a session of ONNX Runtime, so that both are always fed alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError

__all__ = ["Extra", "Port", "channels_last", "feeds_of", "has_rows", "main_port", "others"]

Extra: TypeAlias = Mapping[str, NDArray[Any]]
"""Inputs beside the main one: name -> (N, ...), a row for each sample."""

CHANNELS = (1, 3, 4)
"""How many channels a picture has: grey, color, color with alpha."""


@dataclass(frozen=True)
class Port:
    """One input.

    Args:
        name: of the tensor.
        dtype: as NumPy calls it, e.g. ``float32``, ``int64``, ``bool``.
        shape: with the batch; None where the rank is unknown, None in it where a dimension is open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def is_float(self) -> bool:
        """True for every width of float."""
        return self.dtype in ("float16", "float32", "float64", "bfloat16")

    @property
    def sample(self) -> tuple[int | None, ...]:
        """Shape of one sample: without the batch."""
        return (self.shape or ())[1:]


def main_port(ports: Sequence[Port]) -> Port:
    """What samples are made for: the first float input of rank 4, else the first float one, else the first picture of
    bytes, else the first that has a batch, else the first.
    """

    def rank(port: Port) -> tuple[bool, ...]:
        size = None if port.shape is None else len(port.shape)
        picture = size == 4 and port.dtype == "uint8"
        return (not (port.is_float and size == 4), not port.is_float, not picture, size == 0)

    return min(ports, key=rank)


def others(ports: Sequence[Port]) -> list[Port]:
    """All but the main one, in order."""
    main = main_port(ports)
    return [port for port in ports if port is not main]


def has_rows(port: Port, main: Port) -> bool:
    """True where an input has one row for each sample: its first dimension is open, or as long as the main one's."""
    if not port.shape:
        return False
    batch = main.shape[0] if main.shape else None
    return port.shape[0] is None or port.shape[0] == batch


def feeds_of(ports: Sequence[Port], images: NDArray[Any], extra: Extra) -> dict[str, NDArray[Any]]:
    """One batch as ONNX Runtime takes it: every input by name, in its own type.

    Args:
        ports: all inputs of the model.
        images: (N, ...), for the main input.
        extra: (N, ...) for each of the others; one that has no batch is fed its first row.

    Raises:
        SamplesError: there is nothing for an input.
    """
    main = main_port(ports)
    feeds = {main.name: _typed(images, main.dtype)}
    for port in others(ports):
        if port.name not in extra:
            raise SamplesError(
                f"samples: nothing for input '{port.name}' ({port.dtype}); save it in the .npz as 'input:{port.name}'"
            )
        rows = extra[port.name]
        feeds[port.name] = _typed(rows if has_rows(port, main) else rows[0], port.dtype)
    return {port.name: feeds[port.name] for port in ports}


def _typed(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    return np.asarray(array).astype(dtype, copy=False)


def channels_last(shape: Sequence[int]) -> bool:
    """True where one sample of ``shape`` is a picture (H, W, C): as many channels stand last, and not first."""
    return len(shape) == 3 and shape[-1] in CHANNELS and shape[0] not in CHANNELS
