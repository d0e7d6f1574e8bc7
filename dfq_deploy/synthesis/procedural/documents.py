"""Writing: pages of a document, and signs in a scene."""

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.synthesis.procedural.scenes import Painter, scene

__all__ = ["colours_of_writing", "page", "sign"]

Pixels = NDArray[np.float32]

GLYPH = (5, 3)
"""Rows and columns of the dots of a character."""

PITCH = (8, 4)
"""Rows and columns of dots from one character to the next: between lines and letters is space."""

SHEET = (40, 60)
"""Lines and characters of the text, which repeats at its borders."""

SPACE = 0.18
"""Probability that a character is a space between two words."""

SMALLEST_LINE = 6.0
"""Minimum distance of two lines, in pixels."""


def page(painter: Painter) -> Pixels:
    """Draw a page of lines of dark characters on light paper, or the reverse; float32 (C, H, W)."""
    paper, ink = colours_of_writing(painter)
    written = _writing(painter.size, painter.generator, line=(0.04, 0.2), tilt=0.06)
    shade = painter.paint(np.zeros(painter.size, np.int32))
    light = 0.3 * (shade - shade.mean((1, 2), keepdims=True))
    picture: Pixels = np.where(written, ink[:, None, None], paper[:, None, None]) + light
    return picture


def colours_of_writing(painter: Painter) -> tuple[Pixels, Pixels]:
    """Draw the colours of light paper and of dark ink, float32 (C,) each; one time in five the reverse."""
    paper, ink = painter.colours(2)
    paper = 0.85 + 0.3 * (paper - 0.5)
    ink = 0.1 + 0.4 * (ink - 0.1)
    return (ink, paper) if painter.generator.random() < 0.2 else (paper, ink)


def sign(painter: Painter) -> Pixels:
    """Draw a scene with a rectangle of large characters; float32 (C, H, W)."""
    draw, (height, width) = painter.generator, painter.size
    picture = scene(painter)
    rows, columns = draw.uniform(0.25, 0.7) * height, draw.uniform(0.4, 0.9) * width
    top, left = draw.uniform(0, height - rows), draw.uniform(0, width - columns)
    window = np.s_[:, int(top) : int(np.ceil(top + rows)), int(left) : int(np.ceil(left + columns))]
    board, ink = painter.colours(2)
    written = _writing(painter.size, draw, line=(0.12, 0.5), tilt=0.2)
    picture[window] = np.where(written, ink[:, None, None], board[:, None, None])[window]
    return picture


def _writing(
    size: tuple[int, int], draw: np.random.Generator, line: tuple[float, float], tilt: float
) -> NDArray[np.bool_]:
    """Which pixels of (H, W) are ink.

    Args:
        line: bounds of the distance of two lines, as a fraction of the shorter side.
        tilt: standard deviation of the angle of the lines.
    """
    distance = max(SMALLEST_LINE, min(size) * float(np.exp(draw.uniform(*np.log(line)))))
    dot = PITCH[0] / distance
    dots = _dots(*SHEET, draw)
    angle = draw.normal(0, tilt)
    sine, cosine = np.sin(angle) * dot, np.cos(angle) * dot
    down, across = np.arange(size[0]), np.arange(size[1])
    rows = np.add.outer(down * cosine, across * sine) + draw.uniform(0, dots.shape[0])
    columns = np.add.outer(-down * sine, across * cosine) + draw.uniform(0, dots.shape[1])
    written: NDArray[np.bool_] = dots[rows.astype(np.int64) % dots.shape[0], columns.astype(np.int64) % dots.shape[1]]
    return written


def _dots(lines: int, characters: int, draw: np.random.Generator) -> NDArray[np.bool_]:
    """A sheet of random characters, bool (lines * PITCH[0], characters * PITCH[1])."""
    alphabet = draw.random((40, *GLYPH)) < 0.55
    text = draw.integers(len(alphabet), size=(lines, characters))
    ends = draw.integers(characters // 2, characters + 1, (lines, 1))
    blank = (draw.random(text.shape) < SPACE) | (np.arange(characters) >= ends)
    sheet = np.zeros((lines, PITCH[0], characters, PITCH[1]), bool)
    sheet[:, : GLYPH[0], :, : GLYPH[1]] = np.where(blank[..., None, None], False, alphabet[text]).transpose(0, 2, 1, 3)
    return sheet.reshape(lines * PITCH[0], characters * PITCH[1])
