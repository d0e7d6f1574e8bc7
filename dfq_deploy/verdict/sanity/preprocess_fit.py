"""Judge a preprocess by the input statistics that a network expects, and name the best one."""

from dataclasses import dataclass

import numpy as np

from dfq_deploy.samples.input_statistics import InputStatistics
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess, divided_by_255
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.input_scale import channel_statistics

__all__ = [
    "BY_NAME",
    "FAR",
    "FITS",
    "PHOTOGRAPHS",
    "PixelStatistics",
    "candidates",
    "exchanged_finding",
    "implied_preprocess",
    "impossible_finding",
    "made_with_finding",
    "misfit",
    "pixel_statistics",
    "statistics_finding",
    "unchanged_finding",
    "units_finding",
]

BY_NAME = "--preprocess "
"""The option that gives a known preprocess by its name."""

STD_BAD, STD_CHECK = (0.03, 0.65), (0.1, 0.5)
"""Deviation of pixels in [0, 1] that the network's statistics ask for: none can be above 0.5."""

MEAN_BAD, MEAN_CHECK = (-0.08, 1.08), (-0.03, 1.03)
"""Their mean: 0 to 1, and an estimate that may be off by some hundredths."""

FAR = 20.0
"""Inputs so many times as large as others are of another scale: they drown every bias."""

FITS = 0.5
"""A smaller misfit is a fit."""


SLACK = 1.05
"""Figures are rounded."""

LEAST_MEAN, LEAST_STD = 0.1, 0.05
"""Of the pixels of a data set."""

MOST_STD = 0.4
"""Of the pixels of a data set; larger ones are conventions, such as 0.5 and 1."""


RANGES = {"zero-one": (0.0, 1.0), "minus-one-one": (-1.0, 1.0), "raw": (0.0, 255.0)}
"""What these preprocesses make of pixels."""

USED = 0.6
"""Part of such a range that the values of pictures fill."""


@dataclass(frozen=True)
class PixelStatistics:
    """Pixels in units of pixel / 255.

    Args:
        mean: of each channel, or one for all.
        std: about that mean, over all channels.
    """

    mean: tuple[float, ...]
    std: float


PHOTOGRAPHS = PixelStatistics((0.45,), 0.25)
"""About ImageNet's mean (0.485, 0.456, 0.406), and CIFAR-10's deviation over all pixels (0.247, 0.243, 0.262)."""


def pixel_statistics(samples: Samples, preprocess: Preprocess, channel_axis: int) -> PixelStatistics:
    """Statistics of the pixels that ``preprocess`` made ``samples`` of."""
    mean, deviation = channel_statistics(samples, channel_axis)
    low, high = preprocess.bounds(len(mean))
    pixels = (np.asarray(mean) - low) / (high - low)
    return PixelStatistics(tuple(float(value) for value in pixels), deviation / float((high - low).mean()))


def misfit(preprocess: Preprocess, pixels: PixelStatistics, expected: InputStatistics) -> float:
    """How far the input that ``preprocess`` makes of ``pixels`` is from the one expected; 0 is a match.

    ``|ln(std / expected std)| + max |mean - expected mean| / expected std``.
    """
    low, high = preprocess.bounds(len(expected.mean))
    mean = low + np.asarray(pixels.mean) * (high - low)
    shift = np.abs(mean - expected.mean).max() / expected.std
    return float(abs(np.log(pixels.std * (high - low).mean() / expected.std)) + shift)


def statistics_finding(preprocess: Preprocess, expected: InputStatistics, pixels: PixelStatistics | None) -> Finding:
    """Whether ``preprocess`` can give the input that the first BatchNormalization expects.

    Args:
        pixels: of real images, where there are any; None supposes photographs to name the one that fits best.
    """
    low, high = preprocess.bounds(len(expected.mean))
    mean = float(((np.asarray(expected.mean) - low) / (high - low)).mean())
    std = expected.std / float((high - low).mean())
    level = _level(mean, std)
    figures = {"pixel_mean": mean, "pixel_std": std, "misfit": misfit(preprocess, pixels or PHOTOGRAPHS, expected)}
    asked = f"the network's statistics ask for pixels of mean {255 * mean:.3g} and deviation {255 * std:.3g}"
    shown = " ".join(preprocess.options)
    if level == "OK":
        return Finding("preprocess-fit", level, f"{asked} of 255, which {shown} can give", "", figures)
    message = f"{shown} does not fit the model: under it {asked}, out of 0 to 255"
    remedy, options = _nearest(expected, pixels)
    return Finding("preprocess-fit", level, message, remedy, figures, options)


def _level(mean: float, std: float) -> Level:
    for level, means, stds in (("BAD", MEAN_BAD, STD_BAD), ("CHECK", MEAN_CHECK, STD_CHECK)):
        if not (means[0] <= mean <= means[1] and stds[0] <= std <= stds[1]):
            return "BAD" if level == "BAD" else "CHECK"
    return "OK"


def _nearest(expected: InputStatistics, pixels: PixelStatistics | None) -> tuple[str, str]:
    """The way out, in words and as options: the known preprocess that fits best, or the figures that would."""
    known = pixels or PHOTOGRAPHS
    distances = {name: misfit(entry, known, expected) for name, entry in candidates(len(expected.mean)).items()}
    best = min(distances, key=lambda name: distances[name])
    std = known.std / expected.std
    mean = np.resize(known.mean, len(expected.mean)) - np.asarray(expected.mean) * std
    shown = ",".join(f"{value:.2f}" for value in mean)
    if distances[best] < FITS:
        return f"{best} is the nearest of the known ones; or give --mean and --std of the training", best
    options = f"--mean {shown} --std {','.join([f'{std:.2g}'] * len(mean))}"
    nearest = best.removeprefix(BY_NAME)
    return f"none of the known ones fits (the nearest is {nearest}); give those of training, about {options}", options


def candidates(channels: int, *, without: str = "") -> dict[str, Preprocess]:
    """The known preprocesses by the options that give them; those of colors are averaged where the input is grey."""
    known = {}
    for name, entry in PREPROCESSES.items():
        if name != without and len(entry.mean) in (1, channels):
            known[f"{BY_NAME}{name}"] = entry
        elif name != without and channels == 1:
            grey = Preprocess((round(float(np.mean(entry.mean)), 3),), (round(float(np.mean(entry.std)), 3),))
            known[f"--mean {grey.mean[0]:g} --std {grey.std[0]:g}"] = grey
    return known


def units_finding(preprocess: Preprocess) -> Finding | None:
    """Figures of 0 to 255 where pixel / 255 is meant; None where there is nothing to say."""
    meant = divided_by_255(preprocess)
    if meant is None:
        return None
    mean, std = (",".join(f"{value:.4g}" for value in values) for values in (meant.mean, meant.std))
    message = f"the preprocess' mean {max(preprocess.mean):.4g} is a figure of 0 to 255, where pixel / 255 is meant"
    options = f"--mean {mean} --std {std}"
    return Finding("preprocess-units", "BAD", message, f"divide by 255: {options}", options=options)


def exchanged_finding(preprocess: Preprocess) -> Finding | None:
    """Mean and std that were exchanged; None where there is nothing to say.

    No pixels of 0 to 1 with a mean m have a deviation above sqrt(m (1 - m)). Conventions such as 0 and 1, or 0.5 and 1,
    are no statistics of pixels, and would not be any if they were exchanged.
    """
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    if not (np.all((mean > 0) & (mean < 1)) and np.any(std > SLACK * np.sqrt(mean * (1 - mean)))):
        return None
    if not (np.all((std > LEAST_MEAN) & (std < 1 - LEAST_MEAN)) and np.all(mean > LEAST_STD)):
        return None
    shown, other = (",".join(f"{value:.4g}" for value in values) for values in (std, mean))
    message = (
        f"no pixels have the mean {mean.mean():.3g} and the deviation {std.mean():.3g}: --mean and --std seem exchanged"
    )
    options = f"--mean {shown} --std {other}"
    return Finding("preprocess-units", "BAD", message, f"give {options}", options=options)


def impossible_finding(preprocess: Preprocess) -> Finding | None:
    """A mean that no pixels have; None where there is nothing to say.

    Pixels in units of pixel / 255 have no mean below 0 or above 1. Those of a mean of 0 or 1 are all black or white,
    without any deviation: beside the deviation of a data set such a mean was forgotten or mistyped, while 0 is a
    convention beside a deviation of 1 or of 1 / 255.
    """
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    outside = (mean < 0) | (mean > 1)
    plain = ((mean == 0) | (mean == 1)) & (std > LEAST_STD) & (std < MOST_STD)
    if not np.any(outside | plain):
        return None
    level: Level = "BAD" if np.any(outside) else "CHECK"
    worst = int(np.argmax(outside if np.any(outside) else plain))
    message = f"no pixels have the mean {mean[worst]:.3g} and the deviation {std[worst]:.3g}, in units of pixel / 255"
    remedy = "give the --mean and --std of the training, (pixel / 255 - mean) / std"
    if np.all(mean <= 0) and np.any(mean < 0):
        options = f"--mean {','.join(f'{-value:.4g}' for value in mean)} --std {','.join(f'{v:.4g}' for v in std)}"
        return Finding("preprocess-units", level, message, f"the mean is subtracted: {options}", options=options)
    return Finding("preprocess-units", level, message, remedy)


def implied_preprocess(samples: Samples) -> str | None:
    """Name of the preprocess that arrays of pictures seem to have, by their range; None of standardized ones."""
    low, high = float(samples.images.min()), float(samples.images.max())
    for name, (bottom, top) in RANGES.items():
        used = (high - low) / (top - bottom)
        if bottom <= low and high <= top and used > USED:
            return name
    return None


def unchanged_finding(samples: Samples, preprocess: Preprocess, channel_axis: int) -> Finding | None:
    """Arrays of floats whose range is not that of pixels under ``preprocess``, which does not change arrays."""
    name = implied_preprocess(samples)
    if samples.method or name is None:
        return None
    channels = samples.images.shape[channel_axis]
    given, implied = (np.asarray(entry.bounds(channels)) for entry in (preprocess, PREPROCESSES[name]))
    if np.allclose(given, implied, rtol=1e-2, atol=1e-2):
        return None
    low, high = (f"{value:.3g}" for value in (samples.images.min(), samples.images.max()))
    shown = " ".join(preprocess.options)
    message = f"the samples are arrays of {low} to {high}, which {shown} does not change: it makes no such values"
    remedy = "give the images themselves or uint8 arrays, or normalize the arrays"
    return Finding("preprocess-unchanged", "BAD", message, remedy, options="--data FOLDER")


def made_with_finding(made: Preprocess | None, given: Preprocess | None) -> Finding | None:
    """Samples that another preprocess made than the one of this run; None where one of them is not known.

    Args:
        made: the preprocess that is kept with the samples.
        given: that of this run.
    """
    if made is None or given is None:
        return None
    channels = max(len(made.mean), len(given.mean))
    if np.allclose(made.bounds(channels), given.bounds(channels), rtol=1e-2, atol=1e-2):
        return Finding("samples-preprocess", "OK", "the samples were made with the preprocess that is given")
    mean, std = (",".join(f"{value:.4g}" for value in values) for values in (made.mean, made.std))
    message = f"the samples were made with another preprocess than the one given: mean {mean}, std {std}"
    options = f"--mean {mean} --std {std}"
    return Finding("samples-preprocess", "BAD", message, f"give {options}, or other samples", options=options)
