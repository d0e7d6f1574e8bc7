"""One line of writing that fills the picture, as text recognizers read it."""

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from dfq_deploy.synthesis.procedural.documents import colours_of_writing, page
from dfq_deploy.synthesis.procedural.scenes import Painter, scene

__all__ = ["text_line", "writing"]

Pixels = NDArray[np.float32]

SIZE = (0.45, 0.85)
"""Bounds of the size of the font, as a fraction of the height."""

STRETCH = (0.7, 1.25)
"""Bounds of the width of the characters, as a multiple of the font's."""

BOLD = 0.3
"""Probability that the strokes are thicker than the font's."""

SLANTED = 0.25
"""Probability that the characters lean to the right."""

BEHIND = 0.2
"""Fraction of the lines before a scene instead of paper."""

VOWELS = np.array(list("aeiouy"))
CONSONANTS = np.array(list("bcdfghjklmnpqrstvwxz"))
MARKS = np.array(list(".,:;!?-'/()&%+#"))
DIGITS = np.array(list(string.digits))


def text_line(painter: Painter) -> Pixels:
    """Draw a line of random words in the font that Pillow carries, before paper or a scene; float32 (C, H, W).

    Without FreeType in Pillow the line is one of a page (:func:`dfq_deploy.synthesis.procedural.documents.page`).
    """
    if not features.check("freetype2"):
        return page(painter)
    draw = painter.generator
    paper, ink = colours_of_writing(painter)
    cover = writing(painter.size, draw)
    if draw.random() < BEHIND:
        behind = 0.4 * scene(painter) + 0.6 * paper[:, None, None]
    else:
        shade = painter.paint(np.zeros(painter.size, np.int32))
        behind = paper[:, None, None] + 0.3 * (shade - shade.mean((1, 2), keepdims=True))
    picture: Pixels = behind + cover * (ink[:, None, None] - behind)
    return picture


def writing(size: tuple[int, int], draw: np.random.Generator) -> Pixels:
    """How much of each pixel of (H, W) is ink, 0 to 1."""
    height, width = size
    font = ImageFont.load_default(max(8.0, height * draw.uniform(*SIZE)))
    stretch = draw.uniform(*STRETCH)
    long = max(8, round(width / stretch))
    sheet = Image.new("L", (long, height))
    place = (long * draw.uniform(0.01, 0.06), height / 2 + height * draw.normal(0, 0.04))
    stroke = int(draw.random() < BOLD)
    ImageDraw.Draw(sheet).text(place, _words(font, long, draw), fill=255, font=font, anchor="lm", stroke_width=stroke)
    lean = draw.uniform(0, 0.3) if draw.random() < SLANTED else 0.0
    tilt = draw.normal(0, 0.01)
    sheet = sheet.transform(
        (width, height),
        Image.Transform.AFFINE,
        (1 / stretch, lean, -lean * height / 2, tilt, 1.0, -tilt * width / 2),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(sheet, np.float32) / np.float32(255)


def _words(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, draw: np.random.Generator) -> str:
    """Words and numbers, as many as fit into 94 % of the width or fewer."""
    room = width * draw.uniform(0.3, 0.94)
    text = _word(draw)
    while font.getlength(text) < room:
        text = f"{text} {_word(draw)}"
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-1]
    return text.strip()


def _word(draw: np.random.Generator) -> str:
    """A pronounceable word, or a number, sometimes in capitals or with a mark."""
    if draw.random() < 0.2:
        word = "".join(draw.choice(DIGITS, int(draw.integers(1, 6))))
    else:
        count = int(draw.integers(1, 5))
        letters = np.stack([draw.choice(CONSONANTS, count), draw.choice(VOWELS, count)], axis=1).ravel()
        word = "".join(letters[int(draw.integers(0, 2)) :])
        word = (word, word.capitalize(), word.upper())[int(draw.choice(3, p=(0.6, 0.25, 0.15)))]
    return word + (str(draw.choice(MARKS)) if draw.random() < 0.2 else "")
