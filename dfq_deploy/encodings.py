"""Scale and zero-point arithmetic: QuantType, Range, Encoding.

``q = clip(round_half_even(x / scale) + zero_point, qmin, qmax)`` and ``x ~ (q - zero_point) * scale``,
as ONNX's QuantizeLinear and DequantizeLinear define them. For FP8 the rounding is to the nearest float of that format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoding", "QuantType", "Range", "channel_shape"]

LARGEST_RANK = 16
"""More axes than any tensor has."""

Floats = NDArray[np.floating[Any]]


def channel_shape(ndim: int, axis: int | None) -> tuple[int, ...]:
    """The shape that broadcasts one number per channel along ``axis`` of an array with ``ndim`` dimensions.

    ``channel_shape(4, 1)`` is ``(1, -1, 1, 1)``; if ``axis`` is None (a single number), all sizes are 1.
    """
    if axis is not None and not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is not one of {ndim}")
    return tuple(-1 if axis is not None and index == axis % ndim else 1 for index in range(ndim))


LARGEST_E4M3 = 448
"""The largest float of E4M3, the 8-bit format without infinities."""


@dataclass(frozen=True)
class QuantType:
    """An integer type and the form of its zero point; or the float type FP8.

    Args:
        bits: width, 2 to 16 (32 for biases).
        signed: two's complement if True.
        symmetric: the zero point is fixed: 0 if signed, the middle of the range if unsigned.
        floating: the type is E4M3 (ONNX's FLOAT8E4M3FN): 8 bits, signed, symmetric.
    """

    bits: int
    signed: bool
    symmetric: bool
    floating: bool = False

    def __post_init__(self) -> None:
        if self.floating and (self.bits, self.signed, self.symmetric) != (8, True, True):
            raise ValueError("QuantType: a float type has 8 bits, is signed and symmetric")
        if not (2 <= self.bits <= 16 or self.bits == 32):
            raise ValueError(f"QuantType: bits={self.bits} is outside 2..16 (or 32)")

    @property
    def qmin(self) -> int:
        """Smallest value: -2^(b-1) or 0; symmetric signed types do not use the smallest one; -448 of E4M3."""
        if self.floating:
            return -LARGEST_E4M3
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """Largest value: 2^(b-1) - 1 or 2^b - 1; 448 of E4M3."""
        if self.floating:
            return LARGEST_E4M3
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return "e4m3" if self.floating else f"{'s' if self.signed else 'u'}{self.bits}"


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value that a tensor is quantized for.

    Args:
        low, high: finite, ``low <= high``. An encoding of the range always includes zero,
            because padding and ReLU need an exact zero.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"Range: [{self.low}, {self.high}] is not finite and ascending")

    def union(self, other: "Range") -> "Range":
        """The smallest range that contains both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True, eq=False)
class Encoding:
    """Scale, zero point, integer type and channel axis of one tensor.

    Args:
        scale: float32, shape () or (channels,); positive.
        zero_point: int32, same shape.
        qtype: the integer type.
        axis: the channel axis if the scale is per channel, else None.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    qtype: QuantType
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.scale.shape != self.zero_point.shape or (self.scale.ndim == 1) != (self.axis is not None):
            raise ValueError(
                f"Encoding: scale {self.scale.shape}, zero point {self.zero_point.shape} and axis {self.axis} disagree"
            )
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError(f"Encoding: scale must be finite and positive, got {self.scale}")

    @classmethod
    def of_range(cls, span: Range, qtype: QuantType) -> "Encoding":
        """The per-tensor encoding of a range, extended to include zero."""
        return cls.of_bounds(np.asarray(span.low), np.asarray(span.high), qtype, None)

    @classmethod
    def of_bounds(cls, low: Floats, high: Floats, qtype: QuantType, axis: int | None) -> "Encoding":
        """The encoding of bounds of shape () or (channels,); a channel with only zeros gets scale 1."""
        low64 = np.minimum(low.astype(np.float64), 0.0)
        high64 = np.maximum(high.astype(np.float64), 0.0)
        if qtype.symmetric:
            middle = 0 if qtype.signed else 2 ** (qtype.bits - 1)
            scale = np.maximum(-low64, high64) / (qtype.qmax - middle)
            zero_point = np.full(scale.shape, middle)
        else:
            scale = (high64 - low64) / (qtype.qmax - qtype.qmin)
        # The smallest normal float32: below it, x / scale overflows in the runtimes.
        single = np.where(scale > np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
        if not qtype.symmetric:
            zero_point = np.clip(np.rint(qtype.qmin - low64 / single), qtype.qmin, qtype.qmax)
        return cls(single, np.asarray(zero_point, np.int32), qtype, axis)

    def _broadcast(self, parameter: NDArray[Any], ndim: int) -> NDArray[Any]:
        return parameter if self.axis is None else parameter.reshape(channel_shape(ndim, self.axis))

    def quantize(self, values: Floats) -> NDArray[Any]:
        """Quantize ``values`` to integers, as int32 of the same shape; to floats of E4M3, as float32."""
        scale, zero = (self._broadcast(p, values.ndim) for p in (self.scale, self.zero_point))
        with np.errstate(over="ignore"):  # a quotient outside float32 saturates like any other
            quotients = values / scale
            if self.qtype.floating:
                return _e4m3(np.clip(quotients, self.qtype.qmin, self.qtype.qmax))
            quotients = np.rint(quotients)
        integers: NDArray[np.int32] = np.clip(quotients + zero, self.qtype.qmin, self.qtype.qmax).astype(np.int32)
        return integers

    def dequantize(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        """Convert ``integers``, or floats of E4M3, to float32 values."""
        scale, zero = (self._broadcast(p, integers.ndim) for p in (self.scale, self.zero_point))
        if self.qtype.floating:
            return np.asarray(integers.astype(np.float32) * scale, np.float32)
        values: NDArray[np.float32] = (integers.astype(np.int32) - zero).astype(np.float32) * scale
        return values

    def fake_quantize(self, values: Floats) -> NDArray[np.float32]:
        """Quantize and dequantize ``values``."""
        return self.dequantize(self.quantize(values))

    @property
    def range(self) -> Range:
        """The representable range, over all channels."""
        low = (self.qtype.qmin - self.zero_point) * self.scale.astype(np.float64)
        high = (self.qtype.qmax - self.zero_point) * self.scale.astype(np.float64)
        return Range(float(low.min()), float(high.max()))

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON mapping, as stored in ``encodings.json``."""
        return {
            "bits": self.qtype.bits,
            "signed": self.qtype.signed,
            "symmetric": self.qtype.symmetric,
            "axis": self.axis,
            "scale": self.scale.tolist(),
            "zero_point": self.zero_point.tolist(),
            **({"floating": True} if self.qtype.floating else {}),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Encoding":
        """Create an encoding from the mapping of :meth:`to_json`.

        Raises:
            ValueError: a field is missing, is of another type, or out of its range.
        """
        bits, signed, symmetric, axis = (entry.get(name) for name in ("bits", "signed", "symmetric", "axis"))
        if type(bits) is not int or type(signed) is not bool or type(symmetric) is not bool:
            raise ValueError(
                f"bits {bits!r:.20}, signed {signed!r:.20} and symmetric {symmetric!r:.20} must be a number, true or "
                "false, true or false"
            )
        if axis is not None and (type(axis) is not int or not 0 <= axis < LARGEST_RANK):
            raise ValueError(f"axis {axis!r:.20} is no axis of a tensor")
        floating = entry.get("floating", False)
        if type(floating) is not bool:
            raise ValueError(f"floating {floating!r:.20} must be true or false")
        qtype = QuantType(bits, signed, symmetric, floating)
        scale = _numbers(entry.get("scale"), "scale", (int, float))
        zero_point = _numbers(entry.get("zero_point"), "zero_point", (int,))
        outside = zero_point[(zero_point < min(qtype.qmin, 0)) | (zero_point > qtype.qmax)]
        if outside.size:
            raise ValueError(f"zero point {outside.flat[0]:.0f} is outside {qtype.qmin} to {qtype.qmax} of {qtype}")
        return cls(scale.astype(np.float32), zero_point.astype(np.int32), qtype, axis)


def _numbers(entry: Any, name: str, kinds: tuple[type, ...]) -> NDArray[np.float64]:
    """A number or a flat list of numbers."""
    if entry is None:
        raise ValueError(f"{name} is missing")
    items = entry if isinstance(entry, list) else [entry]
    wrong = [item for item in items if type(item) not in kinds] if items else ["an empty list"]
    if wrong:
        raise ValueError(f"{name} holds {wrong[0]!r:.20}, which is no number")
    if max(abs(item) for item in items) > float(np.finfo(np.float32).max):
        raise ValueError(f"{name} holds {max(items, key=abs)!r:.20}, which no float32 holds")
    return np.asarray(entry, np.float64)


def _e4m3(values: Floats) -> NDArray[np.float32]:
    """The nearest floats of E4M3, as float32."""
    from onnx_ir import DataType

    nearest: NDArray[np.float32] = values.astype(np.float32).astype(DataType.FLOAT8E4M3FN.numpy()).astype(np.float32)
    return nearest
