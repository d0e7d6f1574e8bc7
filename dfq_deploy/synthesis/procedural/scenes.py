"""Scenes of leaves: a background, often out of focus, and an object in front of it."""

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.synthesis.procedural.blur import gaussian_blur
from dfq_deploy.synthesis.procedural.leaves import Owners, leaves_to_cover, occlude
from dfq_deploy.synthesis.procedural.textures import TextureBank

__all__ = ["FARTHEST", "Painter", "over", "scene"]

Pixels = NDArray[np.float32]

SMALLEST = (0.03, 0.16)
"""Bounds of the minimum radius of the leaves, as a fraction of the shorter side; drawn for each picture."""

DEPTH = 0.5
"""Fraction of the scenes that have depth: a background, an object, and sometimes something near in front."""

FARTHEST = 0.05
"""Maximum standard deviation of the blur of what is out of focus, as a fraction of the shorter side."""

NEAR = 0.3
"""Fraction of the scenes with depth that have something near in front, out of focus too."""

SLOPE = 0.3
"""Standard deviation of the change of brightness across a leaf of the picture's size."""

HUE = (0.03, 0.27)
"""Bounds of the standard deviation of a channel around the brightness: grey and colourful pictures."""

TEXTURES = 3
"""Number of textures in one picture."""


class Painter:
    """Paints leaves: each has a colour, a gradient and a texture.

    Args:
        channels, size: of the pictures, (H, W).
        texture: maximum standard deviation of a leaf's texture, in units of the pixel range.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], texture: float, bank: TextureBank, generator: np.random.Generator
    ) -> None:
        self.channels, self.size, self.texture = channels, size, texture
        self.generator = generator
        self.hue = generator.uniform(*HUE)
        self._fields = bank.some(TEXTURES, generator).reshape(TEXTURES, -1)
        self._pixels = np.arange(size[0] * size[1])
        side = min(size)
        self._down, self._across = (np.arange(length, dtype=np.float32) / side for length in size)

    def colours(self, count: int) -> Pixels:
        """Draw colours, float32 (count, C): brightness varies more than hue, as in photographs."""
        brightness = self.generator.random((count, 1))
        return np.asarray(brightness + self.generator.normal(0, self.hue, (count, self.channels)), np.float32)

    def paint(self, owners: Owners) -> Pixels:
        """Paint a picture, float32 (C, H, W), of values around [0, 1]."""
        count, draw = int(owners.max()) + 1, self.generator
        colours = self.colours(count)
        down, across = draw.normal(0, SLOPE, (2, count)).astype(np.float32)
        grain = (draw.random(count) ** 2 * self.texture).astype(np.float32)
        field = draw.integers(TEXTURES, size=count)
        flat = owners.reshape(-1)
        light = self._fields[field[flat], self._pixels] * grain[flat]
        light = light.reshape(self.size) + down[owners] * self._down[:, None] + across[owners] * self._across
        light -= light.mean()
        picture = np.empty((self.channels, *self.size), np.float32)
        for channel in range(self.channels):
            picture[channel] = colours[:, channel][owners]
        picture += light
        return picture


def over(picture: Pixels, front: Pixels, mask: NDArray[np.bool_], sigma: float = 0.0) -> Pixels:
    """Lay ``front`` (C, H, W) on ``picture`` where ``mask`` (H, W) is true, out of focus by ``sigma`` pixels."""
    cover = mask.astype(np.float32)
    if sigma <= 0:
        return np.where(mask, front, picture)
    return gaussian_blur(front * cover, sigma) + (1 - gaussian_blur(cover, sigma)) * picture


def scene(painter: Painter) -> Pixels:
    """Draw one scene, float32 (C, H, W), of values around [0, 1]."""
    draw, side = painter.generator, min(painter.size)
    smallest = float(np.exp(draw.uniform(*np.log(SMALLEST))))
    if draw.random() >= DEPTH:
        return painter.paint(occlude(painter.size, leaves_to_cover(painter.size, smallest), smallest, draw))
    far = max(smallest, 0.08)
    picture = painter.paint(occlude(painter.size, leaves_to_cover(painter.size, far), far, draw))
    picture = gaussian_blur(picture, draw.uniform(0, FARTHEST) * side)
    middle = (*draw.uniform(0.25, 0.75, 2), draw.uniform(0.05, 0.2))
    parts = occlude(painter.size, int(draw.integers(4, 40)), smallest, draw, middle)
    picture = over(picture, painter.paint(parts), parts > 0)
    if draw.random() < NEAR:
        near = occlude(painter.size, int(draw.integers(1, 4)), 0.1, draw, (*draw.uniform(0, 1, 2), 0.2))
        picture = over(picture, painter.paint(near), near > 0, draw.uniform(0.3, 1) * FARTHEST * side)
    return picture
