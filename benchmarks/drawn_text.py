"""Text drawn to pictures with real fonts, as scanners and cameras see it: whole lines, and pages of them.

The words are those of the docstrings of Python's own library, so that every machine draws the same from the same
fonts. No module of the package draws with these fonts or words: nothing here was seen by a calibration.
"""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dfq_deploy.errors import DfqError

__all__ = ["Line", "find_fonts", "lines", "pages"]

MODULES = (
    "argparse",
    "decimal",
    "logging",
    "random",
    "re",
    "statistics",
    "string",
    "subprocess",
    "threading",
    "zipfile",
)
INK, PAPER = ((0, 70), (185, 256)), ((185, 256), (0, 90))
"""Dark on light, and light on dark: least and greatest value of the text and of what is behind it."""


@dataclass(frozen=True, eq=False)
class Line:
    """A picture of one line.

    Args:
        pixels: (H, W, 3) from 0 to 255.
        text: what it says.
        turned: whether it is upside down.
    """

    pixels: NDArray[np.uint8]
    text: str
    turned: bool = False


def find_fonts(folder: Path) -> list[Path]:
    """The font files below ``folder``, sorted by name.

    Raises:
        DfqError: there is none.
    """
    found = sorted(
        (path for path in folder.rglob("*.[to]tf") if "Thin" not in path.name and "ExtraLight" not in path.name),
        key=lambda path: path.name,
    )
    if not found:
        raise DfqError(f"{folder}: it holds no .ttf and no .otf; benchmarks/ocr.py says where fonts are from")
    return found


def lines(fonts: list[Path], count: int, height: int, width: int, seed: int, *, turn: bool = False) -> list[Line]:
    """``count`` lines, each in its own font and colors; with ``turn``, every second one upside down."""
    rng, words = np.random.default_rng(seed), _words()
    drawn = []
    for index in range(count):
        font = ImageFont.truetype(str(fonts[int(rng.integers(len(fonts)))]), int(rng.uniform(0.5, 0.72) * height))
        text = _fill(rng, words, font, width - 16)
        light = bool(rng.integers(4) == 0)
        picture = _background(rng, height, width, light)
        _draw(picture, rng, (8, height // 2), text, font, light)
        pixels = np.asarray(_camera(picture, rng))
        turned = turn and index % 2 == 1
        drawn.append(Line(np.ascontiguousarray(pixels[::-1, ::-1]) if turned else pixels, text, turned))
    return drawn


def pages(fonts: list[Path], count: int, size: int, seed: int) -> list[NDArray[np.uint8]]:
    """``count`` square pictures (size, size, 3) of some lines in fonts and sizes of their own."""
    rng, words = np.random.default_rng(seed), _words()
    found = []
    for _ in range(count):
        light = bool(rng.integers(3) == 0)
        picture = _background(rng, size, size, light)
        top = int(rng.integers(4, 20))
        while top < size - 16:
            font = ImageFont.truetype(str(fonts[int(rng.integers(len(fonts)))]), int(rng.uniform(size / 26, size / 9)))
            left = int(rng.integers(4, size // 3))
            _draw(
                picture, rng, (left, top + int(font.size) // 2), _fill(rng, words, font, size - left - 8), font, light
            )
            top += int(font.size * rng.uniform(1.4, 3))
        found.append(np.asarray(_camera(picture, rng)))
    return found


def _words() -> list[str]:
    texts = " ".join(str(importlib.import_module(name).__doc__) for name in MODULES)
    return sorted(set(re.findall(r"[A-Za-z][A-Za-z'-]+[.,:]?|\d[\d.]*", texts)))


def _fill(rng: np.random.Generator, words: list[str], font: ImageFont.FreeTypeFont, width: int) -> str:
    """Words, and numbers among them, as far as they fit."""
    text = ""
    for _ in range(40):
        word = words[int(rng.integers(len(words)))] if rng.random() < 0.8 else f"{rng.integers(10_000)}"
        longer = f"{text} {word}".strip()
        if font.getlength(longer) <= width:
            text = longer
    return text


def _background(rng: np.random.Generator, height: int, width: int, light: bool) -> Image.Image:
    """A color, or one that passes into another."""
    low, high = PAPER[light]
    ends = rng.integers(low, high, (2, 3))
    ramp = np.linspace(0, 1, width)[None, :, None] * rng.integers(2)
    return Image.fromarray(np.broadcast_to(ends[0] + ramp * (ends[1] - ends[0]), (height, width, 3)).astype(np.uint8))


def _draw(
    picture: Image.Image, rng: np.random.Generator, place: tuple[int, int], text: str, font: ImageFont.FreeTypeFont,
    light: bool,
) -> None:  # fmt: skip
    low, high = INK[light]
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    ImageDraw.Draw(picture).text(place, text, (red, green, blue), font=font, anchor="lm")


def _camera(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A little out of focus, a little noise."""
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    noisy = np.asarray(blurred, np.float32) + rng.normal(0, rng.uniform(0, 6), (picture.height, picture.width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
