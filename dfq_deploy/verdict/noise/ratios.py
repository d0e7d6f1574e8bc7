"""Noise of outputs relative to their signal."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.query import name_of
from dfq_deploy.graph.randomness import random_outputs
from dfq_deploy.runtime.runner import Output

__all__ = ["decibels", "noise_ratio", "repeatable"]


def noise_ratio(expected: Sequence[Output], found: Sequence[Output]) -> float:
    """Noise relative to signal, in power, as the mean over the outputs that can be compared."""
    ratios = []
    for wanted, given in zip(expected, found, strict=True):
        ones, others = (part if isinstance(part, tuple) else (part,) for part in (wanted, given))
        if len(ones) != len(others) or any(one.shape != other.shape for one, other in zip(ones, others, strict=True)):
            continue
        tally = OutputTally()
        for one, other in zip(ones, others, strict=True):
            tally.add(one, other)
        if tally.signal > 0:
            ratios.append(tally.noise / tally.signal)
    if not ratios:
        raise ModelError(
            "the noise of the layers cannot be measured: no output keeps its size from run to run, or all are zero or "
            "random; cut the model before what selects (NonMaxSuppression, NonZero) or draws numbers (RandomNormalLike)"
        )
    return float(np.mean(ratios))


def repeatable(model: ir.Model, outputs: Sequence[Output]) -> tuple[Output, ...]:
    """The outputs of ``model``, in its order, with nothing in place of those that random numbers decide."""
    random = random_outputs(model)
    if not random:  # a runner has other outputs than a model that ends in a plug-in node
        return tuple(outputs)
    named = zip(model.graph.outputs, outputs, strict=True)
    return tuple(() if name_of(value) in random else output for value, output in named)


def decibels(noise: float) -> float:
    if math.isnan(noise):
        return -math.inf
    return math.inf if noise == 0 else -10 * math.log10(noise)
