"""The shipped digits models, as the benchmarks take the zoo's."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from benchmarks.zoo import ZooModel, drawn
from dfq_deploy import Samples
from examples.digits import data

__all__ = ["DigitsModel", "digits_models"]

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = {"digits": ("digits/digits_bn.onnx", "digits/digits.onnx"), "digits_vit": ("digits_vit/digits_vit.onnx",) * 2}


class DigitsModel(ZooModel):
    """A network of the examples: measured on the 500 held-out digits, calibrated with training ones."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return (1, *data.SIZE)

    def images(self, dataset: str) -> Samples:
        """The held-out digits with their labels."""
        return _samples(data.held_out())

    def folds(self, dataset: str, count: int, draw: int = 0) -> Iterator[tuple[Samples, Samples]]:
        """``count`` training digits, and the held-out ones."""
        yield Samples(drawn(_samples(data.training()).images, count, draw)), self.images(dataset)


def digits_models(wanted: list[str]) -> Iterator[DigitsModel]:
    """The shipped models by name."""
    for name, files in FILES.items():
        if name in wanted:
            whole, folded = (EXAMPLES / file for file in files)
            yield DigitsModel(name, whole, folded, data.PREPROCESS, ("held_out_digits",), EXAMPLES)


def _samples(pictures: data.Pictures) -> Samples:
    return Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
