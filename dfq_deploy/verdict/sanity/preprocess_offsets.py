"""Judge a preprocess by the offsets of the first layers, for networks without BatchNormalization.

Training brings the output of each channel near 0: its mean is of the size of its deviation. The bias does its part of
that for inputs of the training's scale. Inputs that are several times too small leave little beside the bias, so means
become large relative to deviations. Photographs show it; no other samples are needed.

That holds where a BatchNormalization was folded into the biases. Networks that never had one, as for super-resolution,
have means far from 0 under any preprocess whose pictures have, and biases too small to make up for them: nothing is
said of them.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, other_inputs
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import name_of, score_count, weighted_nodes
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.photographs import photographs, suits_photographs
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.preprocess_fit import FAR, candidates
from dfq_deploy.verdict.sanity.response import bias_of, moments

__all__ = ["TIMES_BAD", "offset", "offsets", "offsets_finding"]

Floats: TypeAlias = NDArray[np.float64]

LARGE = 1.0
"""Mean of the middle channel, in deviations, up to which nothing is wrong."""

TIMES_CHECK, TIMES_BAD = 1.75, 3.0
"""How many times larger than under the best known preprocess it is, if the preprocess is not that of the training."""

CARRIED = 0.75
"""Biases of so many deviations make the means what they are. Under zero-one they have 0.95 to 4.7 in networks that were
trained on standardized pictures, and at most 0.35 in three that never had a BatchNormalization."""

LAYER = 2
"""The convolution that is looked at, or the last one before: the first one's outputs may be clipped on purpose."""

COUNT = 12
"""Photographs: two crops of each."""


def offset(model: ir.Model, preprocess: Preprocess) -> float | None:
    """Median over the channels of ``|mean| / deviation`` behind the second convolution, on photographs.

    None for a model that is not fed one image, or that does not begin with a convolution.
    """
    return next(offsets(model, [preprocess]), None)


def offsets(model: ir.Model, preprocesses: Sequence[Preprocess]) -> Iterator[float | None]:
    """The :func:`offset` under each preprocess, from one session; nothing for a model that has none."""
    for means, deviations, _ in _channels(model, preprocesses):
        alive = deviations > 1e-3 * deviations.max()
        yield float(np.median(np.abs(means[alive]) / deviations[alive])) if alive.any() else None


def _channels(model: ir.Model, preprocesses: Sequence[Preprocess]) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Mean, deviation and bias of each channel behind the convolution that is looked at, under each preprocess."""
    layers = [node for node in weighted_nodes(model)[:LAYER] if is_op(node, "Conv")]
    ports = model_inputs(model)
    shape = tuple(int(size or 0) for size in (main_input(ports).shape or ())[1:])
    if not layers or is_channels_last(model) or other_inputs(ports) or not suits_photographs(shape):
        return
    pixels, channels = photographs(COUNT, shape, PREPROCESSES["zero-one"]), shape[0]
    name = name_of(layers[-1].outputs[0])
    runner = Runner(expose_tensors(model, [name]), name="the model", quiet_threads=True)
    for preprocess in preprocesses:
        low, high = (bound[:, None, None] for bound in preprocess.bounds(channels))
        samples = Samples(pixels * (high - low) + low, method="photographs")
        parts = [runner.feed(part)[0][:count] for part, count in runner.batches(samples)]
        means, deviations = moments(np.concatenate(parts))
        bias = bias_of(layers[-1])
        yield means, deviations, np.zeros(len(means)) if bias is None else bias


def offsets_finding(model: ir.Model, preprocess: Preprocess, *, doubted: bool = True) -> Finding | None:
    """Whether photographs under another known preprocess fit the first layers much better; None where unknown.

    Only inputs that are too small are noticed: too large ones make offsets small, and ranges too wide.

    Args:
        doubted: False where another sign speaks for ``preprocess``: others are tried only if its offset is large.

    Raises:
        ModelError: ONNX Runtime cannot run the model on photographs.
    """
    channels = (main_input(model_inputs(model)).shape or (0, 0))[1] or 1
    alike = {
        name: other for name, other in candidates(channels).items() if other != preprocess and _alike(other, preprocess)
    }
    found = offsets(model, [preprocess, *alike.values()])
    own = next(found, None)
    if own is None or not alike:
        return None
    shown = " ".join(preprocess.options)
    message = f"channels of the first layers lie {own:.2g} deviations from 0 on photographs under {shown}"
    if own <= LARGE and not doubted:
        return Finding("preprocess-fit", "OK", message, "", {"offset": own, "offset_best": own})
    tried = [*found]
    known = {name: value for name, value in zip(alike, tried, strict=True) if value is not None}
    if not known:
        return None
    best = min(known, key=lambda name: known[name])
    times = own / max(known[best], 1e-6)
    level: Level = "OK" if own <= LARGE or times < TIMES_CHECK else "BAD" if times >= TIMES_BAD else "CHECK"
    if level != "OK" and _carried(model, preprocess) < CARRIED:
        if score_count(model) is None or _alike(preprocess, alike[best]):
            return None
        level = "CHECK"  # inputs that drown the biases: their scale decides
    figures = {"offset": own, "offset_best": min(own, known[best])}
    if level == "OK":
        return Finding("preprocess-fit", level, message, "", figures)
    message = f"{shown} does not seem to fit the model: {message}, {known[best]:.2g} under {best}"
    remedy = f"give the mean and std of training; {best} fits better"
    return Finding("preprocess-fit", level, message, remedy, figures, best)


def _carried(model: ir.Model, preprocess: Preprocess) -> float:
    """Median of the biases, in deviations of their channels."""
    _, deviations, bias = next(_channels(model, [preprocess]))
    alive = deviations > 1e-3 * deviations.max()
    return float(np.median(np.abs(bias[alive]) / deviations[alive]))


def _alike(other: Preprocess, preprocess: Preprocess) -> bool:
    """True for inputs of a similar magnitude."""
    return float(np.mean(preprocess.std)) / float(np.mean(other.std)) < FAR
