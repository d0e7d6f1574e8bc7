"""The handwritten digits that scikit-learn carries, as small grey pictures.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998; the 1,797 pictures of its test set, 8x8 pixels of 0..16, by 13 writers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["PREPROCESS", "Pictures", "held_out", "main", "training"]

PREPROCESS = Preprocess(mean=(0.305,), std=(0.319,))
"""Mean and standard deviation of the training pixels, in units of pixel / 255."""

HELD_OUT = 500
SIZE = (16, 16)


@dataclass(frozen=True)
class Pictures:
    """Pictures and what they show.

    Args:
        images: uint8 (N, 16, 16, 1), black 0 to white 255.
        labels: int64 (N,), the digits 0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _all() -> Pictures:
    digits = load_digits()
    small = np.rint(digits.images / 16 * 255).astype(np.uint8)
    larger = [np.asarray(Image.fromarray(picture).resize(SIZE, Image.Resampling.BILINEAR)) for picture in small]
    images = np.stack(larger)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    return Pictures(images[order], digits.target[order].astype(np.int64))


def held_out() -> Pictures:
    """500 pictures that training never sees, always the same."""
    everything = _all()
    return Pictures(everything.images[:HELD_OUT], everything.labels[:HELD_OUT])


def training() -> Pictures:
    """The 1,297 others."""
    everything = _all()
    return Pictures(everything.images[HELD_OUT:], everything.labels[HELD_OUT:])


def main() -> None:
    """Write ``held_out.npz`` beside this file, as ``--data`` takes it."""
    pictures = held_out()
    np.savez_compressed(Path(__file__).with_name("held_out.npz"), images=pictures.images, labels=pictures.labels)


if __name__ == "__main__":
    main()
