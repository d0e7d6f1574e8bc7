"""Small pictures of samples for the report."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.samples.contact_sheet import image_pixels
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["thumbnails"]

LONGEST = 144
"""Pixels of the longer side: twice what the page shows, for screens of high resolution."""

SMALL = 64
"""Pictures up to this size are enlarged by an integer factor, and stored without loss."""

QUALITY = 72


def thumbnails(samples: Samples, preprocess: Preprocess | None, indices: Sequence[int]) -> tuple[bytes, ...]:
    """The samples of ``indices`` as WebP of at most 144 pixels a side; none where they are no images."""
    if not indices:
        return ()
    pixels = image_pixels(samples.images[np.asarray(indices)], preprocess)
    return () if pixels is None else tuple(_webp(Image.fromarray(_plain(one))) for one in pixels)


def _plain(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.shape[2] == 3 else pixels[..., 0]


def _webp(image: Image.Image) -> bytes:
    small = max(image.size) <= SMALL
    if small:
        factor = LONGEST // max(image.size)
        image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    else:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    stream = BytesIO()
    image.save(stream, "WEBP", lossless=small, quality=QUALITY, method=4)
    return stream.getvalue()
