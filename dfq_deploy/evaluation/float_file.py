"""The float model of an evaluation: its file, and how it is fed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import onnx_ir as ir

from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import input_values, state_main_input
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.task import state_task
from dfq_deploy.graph.torch_export import TorchSource, exported
from dfq_deploy.graph.writing import write_model
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["Fed", "Shapes", "float_file"]

Shapes: TypeAlias = Mapping[str, Sequence[int]]
"""Input name -> shape with the batch."""


@dataclass(frozen=True, eq=False)
class Fed:
    """How the float model is fed, as :func:`dfq_deploy.evaluate` is told.

    Args:
        shapes: input name -> shape with the batch.
        ranges: what inputs are drawn from.
        main_input, task: None where nothing states them.
        preprocess: of images, and of pictures drawn by rule: the one that is given, else that which the quantized file
            states.
        stated: the one that the quantized file states.
    """

    shapes: Mapping[str, Sequence[int]] | None
    ranges: Mapping[str, tuple[float, float]] | None
    main_input: str | None
    task: str | None
    preprocess: Preprocess | None = None
    stated: Preprocess | None = None

    def load(self, path: Path) -> ir.Model:
        """The float model with its main input and its task stated."""
        model = load_sized(path, self.shapes)
        if self.main_input in [value.name for value in input_values(model)]:
            state_main_input(model, self.main_input)
        state_task(model, self.task)
        return model


@contextmanager
def float_file(
    float_model: "AnyPath | TorchSource", input_shape: tuple[int, ...] | None, input_shapes: Shapes | None
) -> Iterator[tuple[Path, str]]:
    """The float model's file, and what results call it; a torch module is in a temporary file meanwhile."""
    if isinstance(float_model, str | PathLike):
        path = as_path(float_model, "the float model")
        yield path, str(path)
        return
    name = type(float_model).__name__
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        write_model(load(exported(float_model, input_shape), input_shapes=input_shapes, fix_shapes=True), path)
        yield path, name
