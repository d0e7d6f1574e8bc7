"""Turn photographs upright, as their EXIF block says."""

import struct
import warnings
from types import MappingProxyType

from PIL import ExifTags, Image

__all__ = ["DAMAGED", "LAID", "orientation", "upright", "upright_size"]

UPRIGHT = 1
"""EXIF's number of a picture that is stored as it is seen."""

LAID = (5, 6, 7, 8)
"""Those of pictures whose width and height are exchanged."""

METHODS = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""Orientation -> what turns the picture upright (Exif 3.0, tag 274)."""

DAMAGED = (
    struct.error,
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    OverflowError,
    TypeError,
    LookupError,
    EOFError,
    MemoryError,
    AttributeError,
    AssertionError,
)
"""What Pillow raises for EXIF blocks that are cut short or broken; its parser stumbles in many ways."""


def orientation(image: Image.Image) -> int:
    """EXIF's number of how a picture lies, 1 to 8; 1 where its block says nothing, or is damaged.

    Pillow turns TIFF files itself when it loads them. ``PIL.ImageOps.exif_transpose`` also writes the block again,
    which fails for some that can be read.
    """
    if image.format == "TIFF":
        return UPRIGHT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        try:
            found = image.getexif().get(ExifTags.Base.Orientation)
        except DAMAGED:
            return UPRIGHT
    return found if isinstance(found, int) and found in METHODS else UPRIGHT


def upright(image: Image.Image, lies: int) -> Image.Image:
    """The picture as it is seen.

    Args:
        lies: its :func:`orientation`.
    """
    return image.transpose(METHODS[lies]) if lies in METHODS else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the picture as it is seen."""
    width, height = image.size
    return (height, width) if orientation(image) in LAID else (width, height)
