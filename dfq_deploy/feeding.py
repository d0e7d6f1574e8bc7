"""Samples as the steps after them take them: split, in batches, with the range that is known beforehand."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dfq_deploy import graph
from dfq_deploy.contracts import Feeds
from dfq_deploy.errors import SamplesError
from dfq_deploy.ports import others
from dfq_deploy.samples import Samples

__all__ = ["Batches", "known_tensors", "refuse_misfit", "split"]

BATCH = 32
"""Samples that are handed to a calibrator at a time."""

CARRYING_OPS = frozenset({"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""What may stand behind the input without changing a value."""


def refuse_misfit(model: ir.Model, samples: Samples) -> None:
    """Refuse samples that do not fit the inputs of ``model``.

    Raises:
        SamplesError: their shape is another one, or an input is missing.
    """
    expected = graph.sample_shape(model)
    if samples.images.shape[1:] != expected:
        raise SamplesError(f"samples of shape {samples.images.shape[1:]} do not fit the model's input {expected}")
    missing = [port.name for port in others(graph.ports(model)) if port.name not in samples.extra]
    if missing:
        raise SamplesError(
            f"samples: nothing for input '{missing[0]}'; save an array 'input:{missing[0]}' beside 'images' in an .npz"
        )


def split(samples: Samples) -> tuple[Samples, Samples]:
    """The samples to calibrate with, and every eighth, which is held out; tiny sets serve as both."""
    if len(samples) < 8:
        return samples, samples
    held = np.arange(len(samples)) % 8 == 7
    return samples.part(~held), samples.part(held)


def known_tensors(model: ir.Model) -> set[str]:
    """The main input and what it becomes without a change of its values: all of them have its range."""
    found: set[str] = set()
    waiting = [graph.image_input(model)]
    while waiting:
        value = waiting.pop()
        found.add(str(value.name))
        waiting += [use.node.outputs[0] for use in value.uses() if use.idx == 0 and use.node.op_type in CARRYING_OPS]
    return found


@dataclass(frozen=True, eq=False)
class Batches:
    """Samples as feeds for a model; sized, so that progress has a total."""

    model: ir.Model
    samples: Samples

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / BATCH)

    def __iter__(self) -> Iterator[Feeds]:
        for start in range(0, len(self.samples), BATCH):
            part = self.samples.part(slice(start, start + BATCH))
            yield graph.feeds(self.model, part.images, part.extra)
