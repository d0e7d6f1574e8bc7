"""The zoo's images: a model calibrates on training images of its own data set."""

import json
from pathlib import Path

import numpy as np

from benchmarks.zoo import ZooModel
from dfq_deploy.samples.preprocess import PREPROCESSES


def _zoo(folder: Path, sets: dict[str, int]) -> ZooModel:
    """A zoo with data sets of grey pictures, each of its own brightness."""
    spec = {name: {"file": f"{name}.npz"} for name in sets}
    for name, value in sets.items():
        np.savez(folder / f"{name}.npz", images=np.full((6, 32, 32, 3), value, np.uint8), labels=np.arange(6))
    (folder / "zoo.json").write_text(json.dumps({"datasets": spec}))
    return ZooModel("net", Path(), Path(), PREPROCESSES["raw"], ("cifar100",), folder)


def test_training_images_of_the_same_set_calibrate(tmp_path: Path) -> None:
    zoo = _zoo(tmp_path, {"cifar10_train": 10, "cifar100": 20, "cifar100_train": 30})
    ((real, measured),) = zoo.folds("cifar100", 4)
    assert (len(real), float(real.images.max()), len(measured)) == (4, 30.0, 6)


def test_without_training_images_each_half_is_measured_with_the_other(tmp_path: Path) -> None:
    folds = list(_zoo(tmp_path, {"cifar10_train": 10, "cifar100": 20}).folds("cifar100", 2))
    assert [(len(real), len(measured)) for real, measured in folds] == [(2, 3), (2, 3)]
    assert folds[0][1].labels is not None
    assert folds[0][1].labels.tolist() == [1, 3, 5]
