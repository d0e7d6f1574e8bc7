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

__all__ = [
    "VALUE_PRESERVING_OPS",
    "SampleBatches",
    "as_twin_input",
    "check_samples_fit",
    "held_out_of",
    "split_held_out",
    "tensors_of_known_range",
]

BATCH = 32
"""Number of samples in one batch for a calibrator."""


VALUE_PRESERVING_OPS = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that do not change values, apart from shape and type."""


def check_samples_fit(model: ir.Model, samples: Samples) -> None:
    """Raise an error for samples that do not fit the inputs of ``model``.

    Raises:
        SamplesError: their shape differs, or an input is missing.
    """
    expected = sample_shape(model)
    if samples.images.shape[1:] != expected:
        raise SamplesError(f"samples of shape {samples.images.shape[1:]} do not fit the model's input {expected}")
    missing = [entry.name for entry in other_inputs(model_inputs(model)) if entry.name not in samples.extra]
    if missing:
        raise SamplesError(
            f"samples: no data for input '{missing[0]}'; add an array 'input:{missing[0]}' to the .npz with 'images'"
        )


def split_held_out(samples: Samples) -> tuple[Samples, Samples]:
    """Split off every eighth sample: calibration samples and held-out samples; fewer than 8 samples serve as both."""
    if len(samples) < 8:
        return samples, samples
    return samples.part(np.arange(len(samples)) % 8 != 7), held_out_of(samples)


def held_out_of(samples: Samples) -> Samples:
    """The second part of :func:`split_held_out` alone."""
    return samples if len(samples) < 8 else samples.part(np.arange(7, len(samples), 8))


def tensors_of_known_range(model: ir.Model) -> set[str]:
    """Return the names of the main input and of all tensors with the same values, which have the same range."""

    def consumers(value: ir.Value) -> list[ir.Value]:
        return [use.node.outputs[0] for use in value.uses() if use.idx == 0 and is_op(use.node, VALUE_PRESERVING_OPS)]

    return {str(value.name) for value in walk([main_input_value(model)], consumers)}


@dataclass(frozen=True, eq=False)
class SampleBatches:
    """Iterates over samples as batches of feeds for a model; its length is the number of batches."""

    model: ir.Model
    samples: Samples

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / BATCH)

    def __iter__(self) -> Iterator[Feeds]:
        for start in range(0, len(self.samples), BATCH):
            part = self.samples.part(slice(start, start + BATCH))
            yield feeds_for(self.model, part.images, part.extra)


def as_twin_input(model: ir.Model, samples: Samples) -> NDArray[np.generic]:
    """Convert samples to the input of the twin: in the type of the main input, images as (N, C, H, W)."""
    main = main_input(model_inputs(model))
    array = feeds_for(model, samples.images, samples.extra)[main.name]
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if is_channels_last(model) else array
