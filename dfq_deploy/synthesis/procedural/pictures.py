"""Procedural pictures: a mixture of scenes, pages, signs, faces and skies, as a camera would take them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.sizes import is_text_line
from dfq_deploy.synthesis.procedural.blur import gaussian_blur
from dfq_deploy.synthesis.procedural.documents import page, sign
from dfq_deploy.synthesis.procedural.faces import face
from dfq_deploy.synthesis.procedural.lines import text_line
from dfq_deploy.synthesis.procedural.scenes import Painter, scene
from dfq_deploy.synthesis.procedural.textures import TextureBank

__all__ = ["Camera", "Pictures"]

Pixels = NDArray[np.float32]

BANK = 24
"""Number of textures that a set of pictures shares."""

LOW_LIGHT = 0.06
"""Fraction of the pictures that are taken in low light: dark, of low contrast, with noise."""


def sky(painter: Painter) -> Pixels:
    """Draw a picture without edges: a gradient and soft clouds; float32 (C, H, W)."""
    picture = painter.paint(np.zeros(painter.size, np.int32))
    return gaussian_blur(picture, painter.generator.uniform(0, 0.05) * min(painter.size))


KINDS: Mapping[str, Callable[[Painter], Pixels]] = MappingProxyType(
    {"scene": scene, "face": face, "sign": sign, "page": page, "sky": sky, "line": text_line}
)

SHARES: Mapping[str, float] = MappingProxyType({"scene": 0.8, "face": 0.06, "sign": 0.06, "page": 0.04, "sky": 0.04})
"""Fraction of the pictures of each kind."""

LINE_SHARES: Mapping[str, float] = MappingProxyType({"line": 0.75, "scene": 0.15, "sign": 0.05, "sky": 0.05})
"""The same where the picture has the size of one line of text."""


@dataclass(frozen=True)
class Camera:
    """Turns a drawn picture into one that a camera could have taken.

    Args:
        sharpest, softest: least and greatest standard deviation of the blur, in pixels.
        noise: maximum standard deviation of the noise of the sensor in good light, in units of the pixel range.
    """

    sharpest: float = 0.3
    softest: float = 1.0
    noise: float = 0.02

    def take(self, picture: Pixels, generator: np.random.Generator) -> Pixels:
        """Blur, expose and clip ``picture``, float32 (C, H, W), to [0, 1]."""
        picture = gaussian_blur(picture, generator.uniform(self.sharpest, self.softest))
        brightness, contrast = generator.uniform(0.3, 0.7), generator.uniform(0.4, 1.2)
        noise = self.noise * generator.random() ** 2
        if generator.random() < LOW_LIGHT:
            brightness, contrast, noise = brightness / 4, contrast / 2, 2 * self.noise
        exposed: Pixels = (picture - picture.mean()) * np.float32(contrast) + np.float32(brightness)
        if noise > 0:
            exposed += generator.standard_normal(picture.shape, np.float32) * np.float32(noise)
        exposed.clip(0, 1, out=exposed)
        return exposed


@dataclass(frozen=True)
class Pictures:
    """Draws pictures of any size and number of channels.

    Args:
        texture: maximum standard deviation of a leaf's texture, in units of the pixel range.
        shares: fraction of the pictures of each kind: scene, face, sign, page, sky, line; None for those of the size.
    """

    texture: float = 0.15
    camera: Camera = Camera()
    shares: Mapping[str, float] | None = None

    def draw(
        self, count: int, shape: tuple[int, int, int], generator: np.random.Generator, progress: Progress = SILENT
    ) -> Pixels:
        """Draw ``count`` pictures of ``shape`` (C, H, W), float32 (count, C, H, W) in [0, 1]."""
        channels, height, width = shape
        size = (height, width)
        bank = TextureBank.drawn(size, min(BANK, count + 2), generator)
        chosen = self.shares or (LINE_SHARES if is_text_line(height, width) else SHARES)
        kinds, shares = list(chosen), np.array(list(chosen.values()))
        pictures = np.empty((count, *shape), np.float32)
        for picture in pictures:
            kind = kinds[int(np.searchsorted(np.cumsum(shares / shares.sum()), generator.random()))]
            painter = Painter(channels, size, self.texture, bank, generator)
            picture[:] = self.camera.take(KINDS[kind](painter), generator)
            progress.advance()
        return pictures
