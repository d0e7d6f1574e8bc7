"""Judge a sample set by itself: number, repeats, constant samples, range of the values."""

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.files.arrays import loaded
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level

__all__ = ["constant_finding", "count_finding", "is_little_used", "range_finding"]

ENOUGH = 8
"""Different samples from which on one more changes little; fewer are worth a look, a single one says nothing."""

CONSTANT_BAD, CONSTANT_CHECK = 0.5, 0.05
"""Shares of samples without any contrast."""

CONTRAST = 1 / 255
"""The least that a sample's values differ by, as a part of what the preprocess spans, or the set's largest value."""

OUTSIDE_BAD, OUTSIDE_CHECK = 0.05, 0.001
"""Shares of values outside what the preprocess can give."""

SLACK = 0.02
"""Of the preprocess' span: so far outside is rounding."""

USED_BAD, USED_CHECK = 0.05, 0.25
"""Parts of the preprocess' span that hold all but the outermost hundredth of the values."""

BLOCK = 64
"""Samples that are looked at together."""

RANGE_PIXELS = 2**17
"""Most pixels of a block of which the range is taken, evenly spaced."""


SKETCH = 64
"""One value in so many tells most samples apart; only those that have the same ones are compared as a whole."""


def count_finding(samples: Samples) -> Finding:
    """How many different samples there are."""
    count, distinct = len(samples), _distinct(samples)
    repeated = f"{count} samples" if distinct == count else f"{distinct} different samples among {count}"
    level: Level = "OK" if distinct >= ENOUGH else "CHECK" if distinct > 1 else "BAD"
    code = "samples-few" if distinct == count else "samples-repeated"
    message = {
        "OK": repeated,
        "CHECK": f"{repeated}: the ranges rest on few values",
        "BAD": f"{repeated}: a single sample says nothing about ranges",
    }[level]
    remedy = "" if level == "OK" else "give --samples 64 or more, or more different images with --data"
    return Finding(code, level, message, remedy, {"samples": count, "distinct": distinct})


def _distinct(samples: Samples) -> int:
    sketches = [_digest(row.reshape(-1)[::SKETCH]) for rows in _blocks(samples) for row in rows]
    times = Counter(sketches)
    alike = {
        (sketch, _digest(row))
        for row, sketch in zip((row for rows in _blocks(samples) for row in rows), sketches, strict=True)
        if times[sketch] > 1
    }
    return sum(seen == 1 for seen in times.values()) + len(alike)


def _digest(row: NDArray[np.float32]) -> bytes:
    return blake2b(row.tobytes()).digest()


def constant_finding(samples: Samples, preprocess: Preprocess | None, channel_axis: int | None = None) -> Finding:
    """How many samples have no contrast at all: zeros, one color, an image that was read as white.

    Args:
        channel_axis: of pictures, with the batch in front, so that one color is no contrast; None for anything else.
    """
    if samples.images[0].size == 1:
        return Finding("samples-constant", "OK", "each sample is a single value")
    spans, largest = [], 0.0
    for rows in _blocks(samples):
        channels = rows[:, None] if channel_axis is None else np.moveaxis(rows, channel_axis, 1)
        flat = channels.reshape(*channels.shape[:2], -1)
        highest, lowest = flat.max(axis=2), flat.min(axis=2)
        spans.append((highest - lowest).max(axis=1))
        largest = max(largest, float(highest.max()), float(-lowest.min()))
    whole = largest if preprocess is None else float(np.mean([1 / value for value in preprocess.std]))
    return _constant(float((np.concatenate(spans) <= CONTRAST * whole).mean()), largest)


def _constant(share: float, largest: float) -> Finding:
    figures = {"constant_share": share, "largest": largest}
    if largest == 0:
        message = "all samples are zeros: nothing but the biases would be calibrated"
        return Finding("samples-constant", "BAD", message, "give real images, or --synth deepinversion", figures)
    level: Level = "BAD" if share >= CONSTANT_BAD else "CHECK" if share > CONSTANT_CHECK else "OK"
    if level == "OK":
        return Finding("samples-constant", "OK", f"{100 * (1 - share):.3g} % of the samples have contrast", "", figures)
    message = f"{100 * share:.3g} % of the samples are of one color each, as images that were read wrongly are"
    return Finding("samples-constant", level, message, "look at samples.png; take those images out", figures)


def range_finding(samples: Samples, preprocess: Preprocess, channel_axis: int) -> Finding:
    """Whether the values are what ``preprocess`` makes of pixels, and how much of its span they use.

    Args:
        channel_axis: of a sample's image with the batch in front: 1 for (N, C, H, W), 3 for (N, H, W, C).

    Raises:
        SamplesError: the preprocess has another number of channels.
    """
    bounds = preprocess.bounds(samples.images.shape[channel_axis])
    low, high = (np.asarray(bound, np.float32) for bound in bounds)
    bottoms, tops = low - SLACK * (high - low), high + SLACK * (high - low)
    outside, pixels = 0, []
    for rows in _blocks(samples):
        channels = np.moveaxis(rows, channel_axis, 0)
        for values, bottom, top in zip(channels, bottoms, tops, strict=True):
            outside += int(np.count_nonzero(values < bottom) + np.count_nonzero(values > top))
        flat = channels.reshape(len(channels), -1)
        seen = flat[:, :: -(-flat.shape[1] // RANGE_PIXELS)]
        pixels.append(np.quantile((seen - low[:, None]) / (high - low)[:, None], (0.005, 0.995)))
    share = outside / samples.images.size
    bottom, top = float(min(pair[0] for pair in pixels)), float(max(pair[1] for pair in pixels))
    figures = {"outside_share": share, "pixel_low": bottom, "pixel_high": top}
    return _range(share, bottom, top, figures)


def is_little_used(finding: Finding) -> bool:
    """Whether a :func:`range_finding` says that the samples use little of what the preprocess spans."""
    figures = finding.figures or {}
    return figures["outside_share"] <= OUTSIDE_CHECK and figures["pixel_high"] - figures["pixel_low"] < USED_CHECK


def _range(share: float, bottom: float, top: float, figures: dict[str, float]) -> Finding:
    code, shown = "samples-range", f"{255 * bottom:.4g} to {255 * top:.4g}"
    remedy = "give the --preprocess (or --mean and --std) that made these arrays, or the images themselves"
    if share > OUTSIDE_CHECK:
        message = (
            f"{100 * share:.3g} % of the values are none that the preprocess can give: turned back they are pixels of "
            f"{shown}, where 0 to 255 are possible"
        )
        return Finding(code, "BAD" if share > OUTSIDE_BAD else "CHECK", message, remedy, figures)
    if top - bottom < USED_CHECK:
        message = f"the samples use little of what the preprocess spans: pixels of {shown} out of 0 to 255"
        return Finding(code, "BAD" if top - bottom < USED_BAD else "CHECK", message, remedy, figures)
    return Finding(code, "OK", f"the samples are pixels of {shown}", "", figures)


def _blocks(samples: Samples) -> Iterator[NDArray[np.float32]]:
    return (loaded(samples.images[first : first + BLOCK]) for first in range(0, len(samples), BLOCK))
