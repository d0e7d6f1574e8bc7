"""Find why a quantized tensor is noisy, from its values.

Each cause is tried: what noise would be left without it (the range as wide as the values need, a scale for each
channel, 8 bits instead of fewer)? The cause that takes the most noise away explains the tensor.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.quantization.placement.detection_heads import RATIO
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits
from dfq_deploy.quantization.weights import extremes, least_squares

__all__ = ["Cause", "Kind", "Role", "cause_of_activation", "cause_of_weight", "relative_noise"]

Kind: TypeAlias = Literal[
    "channel-spread", "outlier-channel", "clipping", "wide-range", "outlier-values", "few-bits", "depthwise",
    "hard-swish", "pooled-gate", "softmax", "mixed-scales", "ordinary",
]  # fmt: skip

Role: TypeAlias = Literal["", "hard-swish", "pooled", "softmax", "mixed"]
"""What writes an activation, where that matters: HardSwish or the like, global pooling, Softmax, or a Concat of parts
of different magnitude."""

EXPLAINS = 0.5
"""Part of a tensor's noise that a cause has to take away: half of it is 3 dB."""

SPREAD = 4.0
"""How many times larger the largest channel is than the middle one where a scale for all of them is to blame."""

MUCH = 0.9
"""The same below 8 bits, where few bits explain nearly all of the noise too."""

FEW = 0.05
"""Largest part of the channels that can be called outliers."""

LOOKED_AT = 2**17
"""Values of a weight that better scales are tried on, where its channels have their own: evenly spread channels."""

FEW_VALUES = 32
"""Weights of one channel, below which their errors do not average out."""

Rows: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Cause:
    """Why one tensor is noisy.

    Args:
        tensor: its name.
        kind: a stable name of the cause.
        sentence: what it is, with figures.
        part: of the tensor's noise that would be gone without the cause, 0 to 1.
        noise: of the tensor relative to its signal, in power.
    """

    tensor: str
    kind: Kind
    sentence: str
    part: float
    noise: float


def relative_noise(values: Rows, encoding: Encoding) -> float:
    """Power of rounding and clipping ``values`` relative to theirs."""
    return _squares(values, encoding) / max(float(np.square(values, dtype=np.float64).sum()), 1e-30)


def cause_of_activation(
    name: str, rows: Rows, encoding: Encoding, *, role: Role = "", limits: Limits = UNBOUNDED
) -> Cause:
    """Why an activation is noisy.

    Args:
        rows: its values (channels, n) in float (:func:`dfq_deploy.evaluation.tensor_values.tensor_values`).
        encoding: per tensor.
        role: what writes it.
        limits: beyond which its readers tell no difference: what is cut off there costs nothing.
    """
    tensor = _Activation(name, np.clip(rows, *limits).astype(np.float32), encoding, role)
    found = next(filter(None, (rule(tensor) for rule in ACTIVATION_RULES)), None)
    sentence = f"'{name}' is rounded as {encoding.qtype.bits} bits do; what follows amplifies it"
    kind, part, said = found or ("ordinary", 0.0, sentence)
    return Cause(name, kind, said, part, relative_noise(tensor.rows, encoding))


class _Activation:
    """An activation's values, and what would be left of its noise without one cause or another."""

    def __init__(self, name: str, rows: Rows, encoding: Encoding, role: Role) -> None:
        self.name, self.rows, self.encoding, self.role = name, rows, encoding, role
        self.scale, self.whole = float(encoding.scale), _squares(rows, encoding)
        self.needed = Encoding.of_bounds(np.asarray(rows.min()), np.asarray(rows.max()), encoding.qtype, None)
        self.range = self._part(self.needed)
        self.trimmed = self._part(_trimmed(rows, encoding))
        self.channels = self._part(Encoding.of_bounds(rows.min(axis=1), rows.max(axis=1), encoding.qtype, 0))
        span = encoding.range
        beyond = (rows < span.low - self.scale / 2) | (rows > span.high + self.scale / 2)
        self.outside = float(beyond.mean())
        self.held, self.found = (f"[{low:.3g}, {high:.3g}]" for low, high in self._ends())

    def _part(self, better: Encoding) -> float:
        """Part of the noise that ``better`` takes away."""
        return max(0.0, 1 - _squares(self.rows, better) / self.whole) if self.whole > 0 else 0.0

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        span = self.encoding.range
        return (span.low, span.high), (float(self.rows.min()), float(self.rows.max()))


Found: TypeAlias = tuple[Kind, float, str] | None
"""A cause, the part of the noise that it explains, and the sentence; None where it does not apply."""


def _pooled(tensor: _Activation) -> Found:
    if tensor.role != "pooled" or tensor.range < EXPLAINS:
        return None
    sentence = (
        f"'{tensor.name}' lies behind global pooling, one value for each sample and channel, so its range "
        f"{tensor.held} comes from few values; these samples need {tensor.found}"
    )
    return "pooled-gate", tensor.range, sentence


def _clipped(tensor: _Activation) -> Found:
    if tensor.range < EXPLAINS or tensor.outside == 0:
        return None
    sentence = (
        f"{100 * tensor.outside:.2g} % of the values of '{tensor.name}' lie outside its range {tensor.held} and are "
        f"clipped; they reach {tensor.found}"
    )
    return "clipping", tensor.range, sentence


def _mixed(tensor: _Activation) -> Found:
    sizes = _sizes(tensor.rows)
    if tensor.role != "mixed" or sizes[-1] < RATIO * sizes[0]:
        return None
    sentence = (
        f"'{tensor.name}' joins values up to {sizes[0]:.2g} with others up to {sizes[-1]:.2g}, such as scores and "
        f"boxes, at one scale: its step of {tensor.scale:.2g} is coarse for the small ones"
    )
    return "mixed-scales", tensor.channels, sentence


def _wide(tensor: _Activation) -> Found:
    if tensor.range < EXPLAINS:
        return None
    sentence = (
        f"the range {tensor.held} of '{tensor.name}' is wider than its values {tensor.found}: its step is "
        f"{tensor.scale / float(tensor.needed.scale):.2g} times as coarse as it could be"
    )
    return "wide-range", tensor.range, sentence


def _softmax(tensor: _Activation) -> Found:
    if tensor.role != "softmax":
        return None
    low = float((tensor.rows < tensor.scale / 2).mean())
    sentence = (
        f"'{tensor.name}' holds probabilities of a Softmax, {100 * low:.0f} % of which are less than half its step of "
        f"{tensor.scale:.2g} and become zero"
    )
    return ("softmax", max(tensor.channels, tensor.trimmed), sentence) if low >= EXPLAINS else None


def _few_bits(tensor: _Activation) -> Found:
    bits = tensor.encoding.qtype.bits
    # Channels of one size gain three quarters of the noise by one bit; more than that is their spread.
    if bits >= 8 or (tensor.channels > MUCH and _largest(tensor.rows) >= SPREAD):
        return None
    return "few-bits", 1 - 4.0 ** (bits - 8), f"'{tensor.name}' has {bits} bits"


def _spread(tensor: _Activation) -> Found:
    if tensor.channels < EXPLAINS or _largest(tensor.rows) < SPREAD:
        return None
    return _channels(tensor.name, tensor.rows, tensor.channels)


def _hard_swish(tensor: _Activation) -> Found:
    if tensor.role != "hard-swish":
        return None
    near = float((np.abs(tensor.rows) < np.abs(tensor.rows).max() / 16).mean())
    sentence = (
        f"'{tensor.name}' is written by HardSwish or the like: {100 * near:.0f} % of its values are less than a "
        f"sixteenth of the largest, and its range {tensor.held} leaves few steps for them"
    )
    return ("hard-swish", tensor.trimmed, sentence) if near >= EXPLAINS else None


def _outlier_values(tensor: _Activation) -> Found:
    if tensor.trimmed < EXPLAINS:
        return None
    most = float(np.quantile(np.abs(tensor.rows), 0.99))
    sentence = f"a few large values of '{tensor.name}' stretch its range to {tensor.held}; 99 % are within {most:.3g}"
    return "outlier-values", tensor.trimmed, sentence


ACTIVATION_RULES = (
    *(_pooled, _clipped, _mixed, _wide, _softmax, _few_bits, _spread, _hard_swish, _outlier_values),
)  # fmt: skip
"""In this order: what can be mended by a better range comes before what the values are like."""


def cause_of_weight(
    name: str, weight: NDArray[np.floating[Any]], encoding: Encoding, axis: int, *, depthwise: bool = False
) -> Cause:
    """Why a weight is noisy.

    Args:
        weight: in float, as given; a scalar is one channel.
        axis: of its output channels.
        depthwise: it is of a convolution with one input channel for each output channel.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) if weight.ndim else weight.reshape(1, 1)
    bits, part = encoding.qtype.bits, _part_left(weight, rows, encoding, axis)
    fewer = 1 - 4.0 ** (bits - 8)
    what = f"the depthwise weight '{name}'" if depthwise else f"weight '{name}'"
    count = f"{rows.shape[1]} values for each channel, whose errors do not average out"
    found: tuple[Kind, float, str]
    if encoding.axis is None and part >= EXPLAINS and _largest(rows) >= SPREAD:
        found = _channels(name, rows, part)
    elif depthwise and rows.shape[1] < FEW_VALUES:
        found = "depthwise", max(fewer, 0.0), f"{what} has {f'{bits} bits and ' if bits < 8 else ''}{count}"
    elif bits < 8:
        found = "few-bits", fewer, f"{what} has {bits} bits"
    elif part >= EXPLAINS:
        found = "outlier-values", part, f"a few large values of {what} stretch its scale"
    else:
        found = "ordinary", 0.0, f"{what} is rounded as {bits} bits do; what follows amplifies it"
    return Cause(name, found[0], found[2], found[1], relative_noise(weight, encoding))


def _part_left(weight: Rows, rows: Rows, encoding: Encoding, axis: int) -> float:
    """Part of a weight's noise that the best scale for each of its channels, the ``rows``, takes away."""
    step = max(1, rows.size // LOOKED_AT) if encoding.axis == axis else 1
    if step > 1:
        one, other = encoding.scale[::step], encoding.zero_point[::step]
        weight = rows = rows[::step]
        encoding = replace(encoding, scale=one, zero_point=other, axis=0)
    whole = _squares(weight, encoding)
    left = (
        Encoding.of_bounds(*bounds(rows, encoding.qtype), encoding.qtype, 0) for bounds in (extremes, least_squares)
    )
    return 1 - min(_squares(rows, better) for better in left) / whole if whole > 0 else 0.0


def _squares(values: Rows, encoding: Encoding) -> float:
    return float(np.square(encoding.fake_quantize(values) - values, dtype=np.float64).sum())


def _trimmed(rows: Rows, encoding: Encoding) -> Encoding:
    """The per-tensor encoding whose rounding and clipping errors together are smallest, of tenths, then fiftieths."""
    low, high = rows.min(), rows.max()

    def part_of_range(fraction: float) -> Encoding:
        return Encoding.of_bounds(np.asarray(low * fraction), np.asarray(high * fraction), encoding.qtype, None)

    def error(fraction: float) -> float:
        return _squares(rows, part_of_range(fraction))

    tenth = min((place / 10 for place in range(10, 1, -1)), key=error)
    near = [tenth + step / 50 for step in range(4, -5, -1) if tenth + step / 50 <= 1]
    return part_of_range(min(near, key=error))


def _sizes(rows: Rows) -> Rows:
    """Largest magnitude of each channel that is not all zero, ascending."""
    sizes: Rows = np.sort(np.abs(rows).max(axis=1))
    return sizes[sizes > 1e-6 * sizes[-1]] if sizes[-1] > 0 else sizes[-1:]


def _largest(rows: Rows) -> float:
    """The largest channel relative to the one in the middle."""
    sizes = _sizes(rows)
    middle = float(np.median(sizes))
    return float(sizes[-1]) / middle if middle > 0 else 1.0


def _channels(name: str, rows: Rows, part: float) -> tuple[Kind, float, str]:
    """Few channels that stand out, or many of different size."""
    sizes = _sizes(rows)
    middle = float(np.median(sizes))
    large = int((sizes > SPREAD * middle).sum())
    if large > max(1, FEW * len(sizes)):
        sentence = (
            f"the channels of '{name}' reach from {sizes[0]:.2g} to {sizes[-1]:.2g} at one scale: {large} of "
            f"{len(sizes)} are more than {SPREAD:g} times as large as the one in the middle"
        )
        return "channel-spread", part, sentence
    index = int(np.abs(rows).max(axis=1).argmax())
    more = f" (and {large - 1} more)" if large > 1 else ""
    sentence = (
        f"channel {index} of '{name}'{more} is {sizes[-1] / middle:.3g} times as large as the one in the middle, and "
        "one scale serves all"
    )
    return "outlier-channel", part, sentence
