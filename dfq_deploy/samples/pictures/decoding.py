"""Decode an image file within limits: known formats, a bounded size, 8 bits."""

import io
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, UnidentifiedImageError

from dfq_deploy.samples.pictures.orientation import DAMAGED, orientation, upright
from dfq_deploy.samples.pictures.originals import Original
from dfq_deploy.validation.bounds import bounds

__all__ = ["FORMATS", "BrokenPicture", "Decoded", "decoded", "opened"]

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""What is read; every other format that Pillow knows, such as PostScript, is refused unseen."""

BYTES_PER_PIXEL = 8
"""What Pillow takes for a pixel of color, as it is stored and as it is converted."""

COLORS = MappingProxyType({"LA": 1, "RGB": 3, "RGBA": 3})
"""Pillow's modes of several channels, and how many of these are colors that are 0 where it is black."""

ROWS = 2**22
"""Pixels of 16 bits that are converted at a time."""

LARGEST_16_BIT = 65535

DARK = 15
"""Upper byte of the largest value of 12 bits."""

UNREADABLE = (
    *DAMAGED,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Pillow and zipfile raise for broken, giant or encrypted files; Pillow's plug-ins stumble in many ways."""


class BrokenPicture(ValueError):  # noqa: N818 - says what it is
    """The image cannot be used; the message completes "image NAME ..."."""


def opened(content: bytes) -> Image.Image:
    """Read the header of an image: its format and size.

    Raises:
        BrokenPicture: it is of no format in :data:`FORMATS`, damaged, or takes more than the memory in
            :class:`.Bounds` once it is decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and of odd metadata
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            known = ", ".join(FORMATS)
            raise BrokenPicture(f"cannot be read (unknown image format; known are {known}); remove it") from None
        except UNREADABLE as problem:
            raise BrokenPicture(f"cannot be read ({_reason(problem)}); remove it") from None
    size, memory = image.width * image.height * BYTES_PER_PIXEL, bounds().memory
    if size > memory:
        raise BrokenPicture(
            f"has {image.width} x {image.height} pixels, which take {size:,} bytes, the limit is {memory:,}; make it "
            "smaller, or raise --max-memory if that is meant"
        )
    return image


@dataclass(frozen=True, eq=False)
class Decoded:
    """The first image of a file.

    Args:
        image: 8 bits a channel, upright.
        frames: how many images the file holds, those of an animation or the pages of a TIFF.
        original: what it was like.
    """

    image: Image.Image
    frames: int
    original: Original


def decoded(content: bytes, mode: str) -> Decoded:
    """Decode an image, the first one of several frames, to 8 bits a channel, and turn it upright.

    Args:
        mode: Pillow's name of the channels, ``L`` or ``RGB``.

    Raises:
        BrokenPicture: as :func:`opened`; or it is cut short, or the range of its values is unknown.
    """
    image = opened(content)
    deep = _has_16_bit_colors(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.load()
            eight, largest = _to_eight_bits(image)
            if deep:
                largest = _largest_of_colors(eight)
            seen = upright(eight.convert(mode), orientation(image))
            return Decoded(seen, int(getattr(image, "n_frames", 1)), Original(seen.size, largest))
        except BrokenPicture:
            raise
        except UNREADABLE as problem:
            raise BrokenPicture(f"cannot be read ({_reason(problem)}); remove it") from None


def _reason(problem: BaseException) -> str:
    text = " ".join(str(problem).split())[:200]
    return text if isinstance(problem, OSError | ValueError) and text else f"{type(problem).__name__}: {text}"


def _has_16_bit_colors(image: Image.Image) -> bool:
    """True for a file of several channels of 16 bits; known before the image is loaded."""
    tiles = getattr(image, "tile", ())
    layouts = [tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "") for tile in tiles]
    return image.mode in COLORS and any(";16" in str(layout) for layout in layouts)


def _largest_of_colors(image: Image.Image) -> int:
    """The largest value of 16 bits, of which Pillow keeps the upper byte: the most that it may be, if that is dark."""
    upper = int(np.asarray(image)[..., : COLORS[image.mode]].max())
    return 256 * upper + (255 if upper <= DARK else 0)


def _to_eight_bits(image: Image.Image) -> tuple[Image.Image, int | None]:
    """Convert ``image`` to 8 bits per channel: 65535 of 16 bits becomes 255 (Pillow's own conversion clips at 255).

    Pillow does so itself when it reads 16-bit images of several channels.

    Returns:
        the converted image, and the largest of its values of 16 bits; None for other images.
    """
    way_out = "save it with 8 or 16 bits a channel, or give an .npz of float32 'images' that are the model's input"
    if image.mode == "F":
        raise BrokenPicture(f"holds floating-point values, whose range is not known; {way_out}")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image, None
    values = np.asarray(image)
    if values.min() < 0 or values.max() > LARGEST_16_BIT:
        raise BrokenPicture(f"holds values from {values.min()} to {values.max()}, beyond 16 bits; {way_out}")
    converted = np.empty(values.shape, np.uint8)
    step = max(1, ROWS // values.shape[1])
    for first in range(0, len(values), step):
        converted[first : first + step] = (values[first : first + step].astype(np.int32) + 128) // 257
    return Image.fromarray(converted), int(values.max())
