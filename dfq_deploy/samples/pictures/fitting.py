"""Fit pictures to a model's input: resized, cropped at the center, preprocessed, within the memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.arrays import BLOCK, allocate, release
from dfq_deploy.samples.pictures.decoding import BrokenPicture, decoded
from dfq_deploy.samples.pictures.listing import Picture
from dfq_deploy.samples.pictures.originals import Original, Originals
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.validation.bounds import bounds

__all__ = ["PictureFitter"]

MODES = {1: "L", 3: "RGB"}
"""Number of channels -> Pillow's name of the image mode."""


@dataclass(eq=False)
class PictureFitter:
    """Makes the samples of one set of pictures, and notes what these were like.

    Args:
        place: the path of the set, for error messages.
        preprocess: the conversion of pixels to the input; None is refused.
        shape: of one sample, (C, H, W), or (H, W, C) if ``channels_last``.
    """

    place: Path
    preprocess: Preprocess | None
    shape: tuple[int, ...]
    channels_last: bool
    pictures: list[Original] = field(default_factory=list, init=False)
    animated: list[str] = field(default_factory=list, init=False)

    def of_files(self, pictures: Iterable[Picture], count: int) -> NDArray[np.float32]:
        """Decode and fit image files: float32 ``(count, *shape)``.

        Raises:
            SamplesError: a file cannot be read, or as :meth:`of_images`.
        """
        return self._fitted((self._decoded(picture) for picture in pictures), count)

    def of_images(self, images: Iterable[Image.Image], count: int) -> NDArray[np.float32]:
        """Fit images of 8 bits: float32 ``(count, *shape)``.

        Raises:
            SamplesError: there is no preprocess, it has other channels, or the input takes no pictures; or the samples
                take more than the memory in :class:`.Bounds`.
        """
        return self._fitted((self._noted(image, Original(image.size)) for image in images), count)

    @property
    def originals(self) -> Originals:
        """What the pictures were like that were fitted so far."""
        height, width = self.shape[:2] if self.channels_last else self.shape[1:]
        return Originals.of(self.pictures, (width, height))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: frames that were left out, pictures that were enlarged."""
        first, small = next(iter(self.animated), ""), self.originals.note
        several = f"{len(self.animated)} image(s) have several frames ('{first}' first): the first one is used"
        return ((several,) if self.animated else ()) + ((small,) if small else ())

    def _noted(self, image: Image.Image, original: Original) -> Image.Image:
        self.pictures.append(original)
        return image

    def _decoded(self, picture: Picture) -> Image.Image:
        try:
            found = decoded(picture.content(), MODES[self.shape[-1 if self.channels_last else 0]])
        except BrokenPicture as problem:
            raise SamplesError(f"{self.place}: image '{picture.name}' {problem}") from None
        if found.frames > 1:
            self.animated.append(str(picture.name))
        return self._noted(found.image, found.original)

    def _fitted(self, images: Iterable[Image.Image], count: int) -> NDArray[np.float32]:
        if self.preprocess is None:
            raise SamplesError(
                f"{self.place}: images need the conversion of pixels to the model's input; "
                f"add --preprocess {'|'.join(PREPROCESSES)} or --mean and --std"
            )
        if len(self.shape) != 3 or self.shape[-1 if self.channels_last else 0] not in MODES:
            raise SamplesError(
                f"{self.place}: images cannot feed an input of shape {self.shape} (1 or 3 channels are needed); "
                f"give an .npz of float32 'images' of shape (N, {', '.join(map(str, self.shape))})"
            )
        self._check_memory(count)
        height, width, channels = self.shape if self.channels_last else (*self.shape[1:], self.shape[0])
        inputs = allocate((count, *self.shape))
        every = max(1, BLOCK // inputs[0].nbytes) if count else 1
        for index, image in enumerate(images):
            if index % every == 0:
                release(inputs)
            fitted = ImageOps.fit(image.convert(MODES[channels]), (width, height), Image.Resampling.BILINEAR)
            try:
                applied = self.preprocess.apply(np.asarray(fitted).reshape(1, height, width, channels))[0]
                inputs[index] = applied.transpose(1, 2, 0) if self.channels_last else applied
            except SamplesError as problem:
                raise SamplesError(f"{self.place}: {problem}") from None
        return inputs

    def _check_memory(self, count: int) -> None:
        needed = count * int(np.prod(self.shape)) * 4
        memory = bounds().memory
        if needed > memory:
            raise SamplesError(
                f"{self.place}: {count} images of {self.shape} take {needed / 2**30:.1f} GiB of memory; "
                f"use at most {memory * count // needed}, with --samples, or raise --max-memory"
            )
