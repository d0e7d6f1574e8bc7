"""Draw the contact sheet samples.png."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.samples.describe import caption
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["MAXIMUM", "contact_sheet", "image_pixels"]

MAXIMUM = 64
"""Largest number of images on a sheet."""

TILE = 96
"""Small images are enlarged by an integer factor to about this many pixels."""

MAXIMUM_WIDTH = 1280
"""Sheets of many large images are reduced by an integer factor to at most this width."""

MARGIN = 3

LETTERS, LETTER_GREY = 13, 200
"""Height in pixels and grey level of the caption."""

MARGIN_GREY = 24
"""Grey level of the margins."""


def contact_sheet(samples: Samples, preprocess: Preprocess | None, path: Path) -> bool:
    """Write up to 64 samples as a grid in a .png file, in order.

    With ``preprocess`` the colors are true; without it each image is scaled from its smallest to its largest value.
    Nothing is written for samples that are not images (rank other than 4, or channels other than 1 or 3). If the
    samples have figures, a caption shows them.

    Returns:
        whether the file was written.

    Raises:
        OutputError: the file cannot be written.
    """
    pixels = image_pixels(samples.images[:MAXIMUM], preprocess)
    if pixels is None:
        return False
    columns = _columns(*pixels.shape[:3])
    sheet = _captioned(_grid(_resized(pixels, columns), columns), caption(samples.figures))
    with atomic_file(path) as partial:
        Image.fromarray(sheet if sheet.shape[2] == 3 else sheet[..., 0]).save(partial, format="PNG", optimize=True)
    return True


def image_pixels(images: NDArray[np.float32], preprocess: Preprocess | None) -> NDArray[np.uint8] | None:
    """Convert inputs of a model to uint8 (N, H, W, C); None if they are not images of 1 or 3 channels.

    With ``preprocess`` the colors are true; without it each image is scaled from its smallest to its largest value.
    """
    if looks_channels_last(images.shape[1:]):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return None
    return _stretched(images) if preprocess is None else preprocess.pixels(images)


def _stretched(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale float32 (N, C, H, W) to uint8 (N, H, W, C), each image from its smallest to its largest value."""
    low = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    levels: NDArray[np.uint8] = np.rint((images - low) / np.where(span > 0, span, 1) * 255).astype(np.uint8)
    return levels.transpose(0, 2, 3, 1)


def _resized(pixels: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Enlarge small images, or reduce large ones so that ``columns`` of them fit, by an integer factor."""
    height, width = pixels.shape[1:3]
    enlarge = max(1, round(TILE / max(height, width)))
    if (reduce := math.ceil(columns * width / MAXIMUM_WIDTH)) <= 1:
        return pixels.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    cut = pixels[:, : height // reduce * reduce, : width // reduce * reduce]
    blocks = cut.reshape(len(cut), height // reduce, reduce, width // reduce, reduce, -1)
    means: NDArray[np.uint8] = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
    return means


def _columns(count: int, height: int, width: int) -> int:
    """Return the number of columns for a nearly square sheet, rather wide than high, with a full last row."""
    ideal = math.sqrt(count * height / width)
    full = (columns for columns in range(math.ceil(ideal), math.floor(2 * ideal) + 1) if count % columns == 0)
    return next(full, min(count, math.ceil(ideal)))


def _grid(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    count, height, width, channels = tiles.shape
    rows = math.ceil(count / columns)
    step_down, step_right = height + MARGIN, width + MARGIN
    sheet = np.full((rows * step_down + MARGIN, columns * step_right + MARGIN, channels), MARGIN_GREY, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = MARGIN + index // columns * step_down, MARGIN + index % columns * step_right
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _captioned(sheet: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Add ``text`` below the sheet (H, W, C), wrapped to its width."""
    if not text:
        return sheet
    font = ImageFont.load_default(LETTERS)
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and font.getlength(longer) > sheet.shape[1] - 4 * MARGIN:
            lines.append(part)
        else:
            lines[-1] = longer
    step = LETTERS + 2 * MARGIN
    band = Image.new("L", (sheet.shape[1], step * len(lines) + MARGIN), MARGIN_GREY)
    draw = ImageDraw.Draw(band)
    for index, line in enumerate(lines):
        draw.text((2 * MARGIN, index * step), line, LETTER_GREY, font=font)
    rows = np.asarray(band)[..., None].repeat(sheet.shape[2], axis=2)
    return np.concatenate([sheet, rows])
