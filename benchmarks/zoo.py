"""The zoo: pretrained models and real images in a folder with a ``zoo.json``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dfq_deploy import Preprocess, Samples
from dfq_deploy.samples.image_folder import read_samples

__all__ = ["DEFAULT_ZOO", "ZooModel", "models"]

DEFAULT_ZOO = Path(__file__).resolve().parents[2] / "shared/zoo"


@dataclass(frozen=True)
class ZooModel:
    """One pretrained classifier.

    Args:
        bn, folded: the same network with its BatchNormalization nodes kept, and folded.
        evaluation: names of the data sets that it is measured on.
    """

    name: str
    bn: Path
    folded: Path
    preprocess: Preprocess
    evaluation: tuple[str, ...]
    zoo: Path

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return (3, 32, 32) if self.evaluation[0].startswith("cifar10") else (3, 224, 224)

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """Those of the zoo, by name."""
        found: dict[str, Any] = json.loads((self.zoo / "zoo.json").read_text())["datasets"]
        return found

    def images(self, dataset: str) -> Samples:
        """A data set as this model takes it, with labels where the set has them."""
        return read_samples(self.zoo / self.datasets[dataset]["file"], self.preprocess, self.shape)

    def folds(self, dataset: str, count: int, draw: int = 0) -> Iterator[tuple[Samples, Samples]]:
        """Real images to calibrate with, and images to measure on that are not among them.

        Where the zoo has training images of the data set, they calibrate. For ImageNet there are only test images:
        each half is measured with ``count`` images of the other.

        Args:
            draw: which ``count`` real images: the first, the next, and so on, round and round.
        """
        measured = self.images(dataset)
        training = f"{dataset}_train"
        if training in self.datasets:
            yield Samples(drawn(self.images(training).images, count, draw)), measured
            return
        odd = np.arange(len(measured)) % 2 == 1
        for own in (odd, ~odd):
            yield Samples(drawn(measured.images[~own], count, draw)), subset(measured, own)


def drawn(
    images: np.ndarray[Any, np.dtype[np.float32]], count: int, draw: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The ``draw``-th run of ``count`` images, which goes on at the front behind the last one."""
    return np.roll(images, -draw * count, axis=0)[:count]


def subset(samples: Samples, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Samples:
    """The samples where ``chosen`` is true."""
    return Samples(samples.images[chosen], None if samples.labels is None else samples.labels[chosen])


def models(zoo: Path, wanted: list[str]) -> Iterator[ZooModel]:
    """The models of the zoo by name; all of them where none is named."""
    spec: dict[str, Any] = json.loads((zoo / "zoo.json").read_text())
    for name, entry in spec["models"].items():
        if not wanted or name in wanted:
            yield ZooModel(
                name,
                zoo / entry["bn"],
                zoo / entry["folded"],
                Preprocess(tuple(entry["mean"]), tuple(entry["std"])),
                tuple(entry["eval"]),
                zoo,
            )
