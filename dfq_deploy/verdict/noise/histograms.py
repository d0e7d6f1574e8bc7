"""Histograms of quantized tensors: where their values lie, and what the integers hold."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding

__all__ = ["BINS", "Histogram", "histogram_of"]

BINS = 96

Unit: TypeAlias = Literal["value", "step"]
"""``value``: that of the tensor. ``step``: steps of each channel's own scale, where each has one."""


@dataclass(frozen=True)
class Histogram:
    """Values of one tensor, in bins of equal width.

    Args:
        tensor, type: name and integer type, e.g. ``u8``.
        unit: of all limits below.
        low, high: ends of the first and the last bin: all values and the whole range lie between them.
        counts: number of values in each bin.
        clip_low, clip_high: smallest and largest value that the integers hold.
        step: distance of two neighboring integers.
        outside: part of the values beyond them by more than half a step, 0 to 1.
    """

    tensor: str
    type: str
    unit: Unit
    low: float
    high: float
    counts: tuple[int, ...]
    clip_low: float
    clip_high: float
    step: float
    outside: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {**vars(self), "counts": list(self.counts)}


def histogram_of(name: str, values: NDArray[np.floating[Any]], encoding: Encoding, axis: int = 0) -> Histogram:
    """The histogram of ``values``, in float.

    Args:
        values: any shape.
        axis: of the channels, where the encoding has a scale for each.
    """
    single = encoding.scale.size == 1
    scale, zero = encoding.scale.astype(np.float64), encoding.zero_point.astype(np.float64)
    if single:
        held = encoding.range
        clip, step, shown = (held.low, held.high), float(scale.reshape(-1)[0]), values.astype(np.float64)
    else:
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        shown, step = values / scale.reshape(shape), 1.0
        clip = float((encoding.qtype.qmin - zero).min()), float((encoding.qtype.qmax - zero).max())
    low = min(clip[0], float(shown.min(initial=0.0)))
    high = max(clip[1], float(shown.max(initial=0.0)))
    counts, _ = np.histogram(shown, bins=BINS, range=(low, high if high > low else low + 1.0))
    unit: Unit = "value" if single else "step"
    beyond = (shown < clip[0] - step / 2) | (shown > clip[1] + step / 2)
    return Histogram(
        name, str(encoding.qtype), unit, low, high, tuple(counts.tolist()), *clip, step, float(beyond.mean())
    )
