"""Face-like pictures: smooth ovals with eyes, brows and a mouth, on a scene out of focus."""

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.synthesis.procedural.blur import gaussian_blur
from dfq_deploy.synthesis.procedural.scenes import FARTHEST, Painter, over, scene

__all__ = ["face"]

Pixels = NDArray[np.float32]

PARTS = (
    # row, column, half height and half width in units of half a face, brightness relative to the skin
    (-0.30, 0.00, 1.10, 1.15, -0.45),  # hair
    (0.00, 0.00, 1.00, 0.78, 0.00),  # skin
    (-0.18, 0.34, 0.09, 0.17, 0.25),  # eyes
    (-0.18, -0.34, 0.09, 0.17, 0.25),
    (-0.18, 0.34, 0.08, 0.08, -0.55),  # pupils
    (-0.18, -0.34, 0.08, 0.08, -0.55),
    (-0.38, 0.34, 0.04, 0.22, -0.30),  # brows
    (-0.38, -0.34, 0.04, 0.22, -0.30),
    (0.20, 0.00, 0.10, 0.12, -0.12),  # nose
    (0.52, 0.00, 0.08, 0.28, -0.25),  # mouth
)


def face(painter: Painter) -> Pixels:
    """Draw a face-like picture, float32 (C, H, W), of values around [0, 1]."""
    draw, side = painter.generator, min(painter.size)
    picture = gaussian_blur(scene(painter), draw.uniform(0.3, 1) * FARTHEST * side)
    half = draw.uniform(0.2, 0.6) * side
    centre = draw.uniform(0.35, 0.65, 2) * painter.size
    down, across = (np.arange(length) - middle for length, middle in zip(painter.size, centre, strict=True))
    angle = draw.normal(0, 0.2)
    rows = np.add.outer(down * np.cos(angle), across * np.sin(angle)) / half
    columns = np.add.outer(-down * np.sin(angle), across * np.cos(angle)) / half
    skin, hair = painter.colours(2)
    front, covered = picture.copy(), np.zeros(painter.size, bool)
    for row, column, height, width, brightness in PARTS:
        high, wide = draw.uniform(0.8, 1.2, 2) * (height, width)
        inside = ((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 <= 1
        front[:, inside] = (hair if height > 1 else skin + np.float32(brightness))[:, None]
        covered |= inside
    light = np.float32(draw.normal(0, 0.2)) * rows + np.float32(draw.normal(0, 0.25)) * columns
    front = gaussian_blur(front + light.astype(np.float32), 0.01 * side)
    return over(picture, front, covered)
