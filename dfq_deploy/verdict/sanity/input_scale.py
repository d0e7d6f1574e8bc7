"""Compare the scale of samples with what the first layers of a network expect."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.samples.input_statistics import InputStatistics
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.response import response_to_bias

__all__ = [
    "PLAIN",
    "RESPONSE",
    "RESPONSE_LARGE",
    "channel_statistics",
    "response_finding",
    "response_fits",
    "scale_finding",
]

SCALE_BAD, SCALE_CHECK = (0.15, 6.0), (0.3, 2.5)
"""Deviation of the samples in units of the one that the network expects: below and above."""

SHIFT_BAD, SHIFT_CHECK = 3.0, 1.2
"""Largest distance of a channel's mean from the one expected, in units of the deviation expected."""

RESPONSE_SMALL, RESPONSE_LARGE = (0.06, 0.15), (40.0, 25.0)
"""Deviation of the first layer's output in units of its bias: far out, and on its border."""

RESPONSE = "response_to_bias"
"""Name of the figure."""

PLAIN = (0.1, 10.0)
"""Samples of a deviation inside are of a usual scale, so that the bias may be the unusual one."""

REMEDY = "check --preprocess (or --mean and --std): it must be the one that the network was trained with"


def channel_statistics(samples: Samples, channel_axis: int) -> tuple[tuple[float, ...], float]:
    """Mean of each channel, and the deviation about it over all channels.

    Args:
        channel_axis: of the images with the batch in front.
    """
    axes = tuple(axis for axis in range(samples.images.ndim) if axis != channel_axis)
    mean = samples.images.mean(axis=axes, dtype=np.float64)
    deviation = float(np.sqrt(samples.images.var(axis=axes, dtype=np.float64).mean()))
    return tuple(float(value) for value in mean), deviation


def scale_finding(samples: Samples, expected: InputStatistics, channel_axis: int) -> Finding:
    """Mean and deviation of the samples against those that the BatchNormalization expects."""
    mean, deviation = channel_statistics(samples, channel_axis)
    scale = deviation / expected.std
    shift = float(np.abs(np.subtract(mean, expected.mean)).max()) / expected.std
    level = _level(scale, shift)
    message = (
        f"the samples have mean {np.mean(mean):.3g} and deviation {deviation:.3g}; the first BatchNormalization "
        f"expects about {np.mean(expected.mean):.2g} and {expected.std:.2g}"
    )
    figures = {"scale": scale, "shift": shift}
    return Finding("samples-scale", level, message, "" if level == "OK" else REMEDY, figures)


def _level(scale: float, shift: float) -> Level:
    for level, (low, high), far in (("BAD", SCALE_BAD, SHIFT_BAD), ("CHECK", SCALE_CHECK, SHIFT_CHECK)):
        if not low <= scale <= high or shift > far:
            return "BAD" if level == "BAD" else "CHECK"
    return "OK"


def response_finding(model: ir.Model, samples: Samples) -> Finding | None:
    """The first layer's response to the samples against its bias; None where no layer has a bias.

    For networks without BatchNormalization.

    Raises:
        SamplesError: ONNX Runtime cannot run the model on the samples.
    """
    value = response_to_bias(model, samples)
    if value is None:
        return None
    deviation = float(samples.images.std(dtype=np.float64))
    figures = {RESPONSE: value, "deviation": deviation}
    message = f"the first layer's response to the samples is {value:.3g} times its bias"
    level, end = _response_level(value, deviation)
    if level == "OK":
        return Finding("samples-scale", level, message, "", figures)
    message += f", and the deviation of the samples {deviation:.3g}: the input seems far too {end}"
    return Finding("samples-scale", level, message, REMEDY, figures)


def response_fits(model: ir.Model, samples: Samples) -> bool | None:
    """Whether the first layer's response to ``samples`` is of the scale of its bias; None where no layer has a bias."""
    value = response_to_bias(model, samples)
    return None if value is None else RESPONSE_SMALL[1] <= value <= RESPONSE_LARGE[1]


def _response_level(value: float, deviation: float) -> tuple[Level, str]:
    """The level, and what the input seems to be; a usual scale of the samples makes it a question at most."""
    if value < RESPONSE_SMALL[1]:
        return "BAD" if value < RESPONSE_SMALL[0] and deviation < PLAIN[0] else "CHECK", "small"
    if value > RESPONSE_LARGE[1]:
        return "BAD" if value > RESPONSE_LARGE[0] and deviation > PLAIN[1] else "CHECK", "large"
    return "OK", ""
