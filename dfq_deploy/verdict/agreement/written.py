"""Photographs with lines of text, for networks that find nothing on plain ones."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import features

from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import is_large, is_text_line
from dfq_deploy.synthesis.procedural.lines import writing

__all__ = ["suits_writing", "written"]

Pixels = NDArray[np.float32]

CHANNELS = (1, 3)

LINES = (1, 4)
"""Smallest and largest number of lines in a picture."""

HEIGHTS = (0.04, 0.15)
"""Bounds of the height of a line, as a fraction of the shorter side."""

LOWEST = 12
"""Smallest height in pixels: letters of fewer are none."""

WIDTHS = (3.0, 10.0)
"""Bounds of the width of a line, as a multiple of its height."""

CONTRAST = 0.2
"""Largest distance of the ink from black or white, as a fraction of the range of the pixels."""


def suits_writing(samples: Samples) -> bool:
    """True for pictures that are large enough for text in them, and are no line of text themselves."""
    shape = samples.images.shape[1:]
    if len(shape) != 3 or not is_large(shape) or not features.check("freetype2"):
        return False
    last = looks_channels_last(shape)
    return shape[2 if last else 0] in CHANNELS and not is_text_line(*(shape[:2] if last else shape[1:]))


def written(photographs: Samples, seed: int = 0) -> Samples:
    """The same pictures with one to four lines of text each, in the font that Pillow carries.

    Args:
        photographs: as :func:`suits_writing` accepts them, in the model's own input space; the smallest and the largest
            value of each channel over all of them are taken for black and white.
    """
    generator = np.random.default_rng([seed, 0x74657874])  # independent of other generators with this seed
    turned = looks_channels_last(photographs.images.shape[1:])
    images = np.array(photographs.images.transpose(0, 3, 1, 2) if turned else photographs.images, np.float32)
    low, high = (bound(images, axis=(0, 2, 3))[:, None, None] for bound in (np.min, np.max))
    for picture in images:
        for _ in range(int(generator.integers(LINES[0], LINES[1], endpoint=True))):
            _write(picture, low, high, generator)
    images = images.transpose(0, 2, 3, 1) if turned else images
    return replace(photographs, images=np.ascontiguousarray(images.astype(photographs.images.dtype)), labels=None)


def _write(picture: Pixels, low: Pixels, high: Pixels, draw: np.random.Generator) -> None:
    """Write one line into ``picture`` (C, H, W), in light ink where it is dark and in dark ink where it is light."""
    size = picture.shape[1:]
    height = min(max(LOWEST, round(min(size) * draw.uniform(*HEIGHTS))), size[0])
    width = min(round(height * draw.uniform(*WIDTHS)), size[1])
    top, left = (int(draw.integers(0, room - used + 1)) for room, used in zip(size, (height, width), strict=True))
    place = picture[:, top : top + height, left : left + width]
    distance = np.float32(draw.uniform(0, CONTRAST)) * (high - low)
    dark = float((place - low).mean()) < float((high - place).mean())
    ink = high - distance if dark else low + distance
    place += writing((height, width), draw) * (ink - place)
