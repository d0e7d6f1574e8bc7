"""Split and batch samples for calibration, the twin and ONNX Runtime."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import (
    Feeds,
    feeds_for,
    is_channels_last,
    main_input,
    main_input_value,
    model_inputs,
    other_inputs,
    sample_shape,
)
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.traversal import walk
from dfq_deploy.samples.samples import Samples

__all__ = ["SampleBatches", "as_twin_input", "check_samples_fit", "split_held_out", "tensors_of_known_range"]

BATCH = 32
"""Samples that are handed to a calibrator at a time."""


CARRYING_OPS = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""What may stand behind the input without changing a value."""


def check_samples_fit(model: ir.Model, samples: Samples) -> None:
    """Refuse samples that do not fit the inputs of ``model``.

    Raises:
        SamplesError: their shape is another one, or an input is missing.
    """
    expected = sample_shape(model)
    if samples.images.shape[1:] != expected:
        raise SamplesError(f"samples of shape {samples.images.shape[1:]} do not fit the model's input {expected}")
    missing = [port.name for port in other_inputs(model_inputs(model)) if port.name not in samples.extra]
    if missing:
        raise SamplesError(
            f"samples: nothing for input '{missing[0]}'; save an array 'input:{missing[0]}' beside 'images' in an .npz"
        )


def split_held_out(samples: Samples) -> tuple[Samples, Samples]:
    """The samples to calibrate with, and every eighth, which is held out; tiny sets serve as both."""
    if len(samples) < 8:
        return samples, samples
    held = np.arange(len(samples)) % 8 == 7
    return samples.part(~held), samples.part(held)


def tensors_of_known_range(model: ir.Model) -> set[str]:
    """The main input and what it becomes without a change of its values: all of them have its range."""

    def carried(value: ir.Value) -> list[ir.Value]:
        return [use.node.outputs[0] for use in value.uses() if use.idx == 0 and is_op(use.node, CARRYING_OPS)]

    return {str(value.name) for value in walk([main_input_value(model)], carried)}


@dataclass(frozen=True, eq=False)
class SampleBatches:
    """Samples as feeds for a model; sized, so that progress has a total."""

    model: ir.Model
    samples: Samples

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / BATCH)

    def __iter__(self) -> Iterator[Feeds]:
        for start in range(0, len(self.samples), BATCH):
            part = self.samples.part(slice(start, start + BATCH))
            yield feeds_for(self.model, part.images, part.extra)


def as_twin_input(model: ir.Model, samples: Samples) -> NDArray[np.generic]:
    """The samples as the twin takes them: in the main input's type, pictures as (N, C, H, W)."""
    main = main_input(model_inputs(model))
    array = feeds_for(model, samples.images, samples.extra)[main.name]
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if is_channels_last(model) else array
