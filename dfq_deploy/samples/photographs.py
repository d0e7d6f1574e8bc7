"""Random crops of photographs in the public domain."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["CALIBRATION", "JUDGING", "photographs", "suits_photographs"]

JUDGING = Path(__file__).parent / "photograph_files"
"""Six JPEG files that the verdict judges with, and SOURCES.md with their authors and licences."""

CALIBRATION = Path(__file__).parent / "calibration_photographs"
"""Twelve others that calibrate, so that no scene both calibrates and judges."""

MODES = {1: "L", 3: "RGB"}

SMALL = 64
"""Largest side of small inputs, which show a whole object; larger ones may also show a detail."""

SMALLEST_CROP = {True: 0.5, False: 0.3}
"""Smallest side of a crop, as a fraction of the largest one that fits; by whether the input is small."""

BRIGHTNESS = 0.15
"""Largest shift, as a fraction of the pixel range."""

CONTRAST = (0.6, 1.2)

TINT = 0.05
"""Standard deviation of the shift of each channel, as a fraction of the pixel range."""


def suits_photographs(shape: tuple[int, ...]) -> bool:
    """Return True for an input (C, H, W) with one or three channels and sides of at least 8."""
    return len(shape) == 3 and shape[0] in MODES and min(shape[1:]) >= 8


def photographs(
    count: int,
    shape: tuple[int, ...],
    preprocess: Preprocess | None = None,
    seed: int = 0,
    folder: Path = JUDGING,
) -> NDArray[np.float32]:
    """Return random crops of the shipped photographs, mirrored at random, with random brightness, contrast and tint.

    Asano and Saeed, "The Augmented Image Prior" (ICLR 2023), train networks on crops of a single photograph.

    Args:
        count: number of images; each photograph is used equally often.
        shape: (C, H, W) with one or three channels (:func:`suits_photographs`).
        preprocess: conversion of pixels to the model's input; None scales the set to mean 0 and standard deviation 1.
        seed: the same seed gives the same images.
        folder: of the photographs, :data:`JUDGING` or :data:`CALIBRATION`.

    Returns:
        float32 (count, C, H, W).

    Raises:
        ValueError: the shape is not that of an image.
        SamplesError: ``preprocess`` has another number of channels.
    """
    if not suits_photographs(shape):
        raise ValueError(f"photographs: an input of shape {shape} is not an image; (1 or 3, H, W) is needed")
    generator = np.random.default_rng([seed, 0x70686F74])  # independent of other generators with this seed
    sources = _sources(folder, MODES[shape[0]])
    pixels = np.empty((count, *shape), np.float32)
    for index in range(count):
        crop = _crop(sources[index % len(sources)], shape[1], shape[2], generator)
        pixels[index] = _jitter(crop.reshape(*shape[1:], shape[0]).transpose(2, 0, 1), generator)
    if preprocess is None:
        mean, deviation = pixels.mean(), pixels.std() + np.float32(1e-6)
        pixels -= mean
        pixels /= deviation
        return pixels
    preprocess.normalize(pixels)
    return pixels


@cache
def _sources(folder: Path, mode: str) -> tuple[Image.Image, ...]:
    return tuple(Image.open(file).convert(mode) for file in sorted(folder.glob("*.jpg")))


def _crop(source: Image.Image, height: int, width: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a random window with the input's aspect ratio, (height, width[, 3]) in [0, 1]."""
    largest = min(source.width / width, source.height / height)
    smallest = SMALLEST_CROP[max(height, width) <= SMALL]
    scale = largest * float(np.exp(generator.uniform(np.log(smallest), 0)))
    left = generator.uniform(0, source.width - scale * width)
    top = generator.uniform(0, source.height - scale * height)
    right, bottom = min(left + scale * width, source.width), min(top + scale * height, source.height)
    window = source.resize((width, height), Image.Resampling.BICUBIC, (left, top, right, bottom))
    if generator.random() < 0.5:
        window = ImageOps.mirror(window)
    return np.asarray(window, np.float32) / np.float32(255)


def _jitter(picture: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Change contrast around the mean, brightness and the tint of channels at random."""
    shift = generator.uniform(-BRIGHTNESS, BRIGHTNESS) + generator.normal(0, TINT, (len(picture), 1, 1))
    contrast, mean = generator.uniform(*CONTRAST), float(picture.mean())
    changed = picture * np.float32(contrast)
    changed += np.asarray(shift + (1 - contrast) * mean, np.float32)
    return changed.clip(0, 1, out=changed)
