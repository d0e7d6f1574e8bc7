"""Judge samples that were drawn without a preprocess: do mean 0 and deviation 1 fit the network."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, other_inputs
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.input_statistics import InputStatistics
from dfq_deploy.samples.photographs import photographs, suits_photographs
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.preprocess_answers import SAME_FAMILY
from dfq_deploy.verdict.sanity.preprocess_fit import FITS, PHOTOGRAPHS, candidates, misfit
from dfq_deploy.verdict.sanity.response import informations

__all__ = ["missing_finding"]

COUNT = 6
"""Photographs that answers are compared on, one crop of each: 24 name the same ones in the classifiers of the zoo."""

UNKNOWN = "--preprocess NAME"
"""The way out where the known ones cannot be told apart."""

ALIKE = 0.9
"""A preprocess whose answers hold so large a part of the most information may be that of the training."""


def missing_finding(
    model: ir.Model, expected: InputStatistics | None, channels: int, runner: Runner | None = None
) -> Finding:
    """Whether mean 0 and deviation 1, which samples have without a preprocess, are what the network was trained on.

    Statistics of a BatchNormalization tell. Without them the samples are a guess, and the verdict is no better than
    ``CHECK``: activations, and so ranges, are as much too large or too small as the input is. The known ones under
    which the answers to photographs are surest are named.

    Args:
        expected: what the first BatchNormalization tells of the input; None where there is none.
        channels: of the input.
        runner: what runs ``model``, if that is at hand.

    Raises:
        DfqError: ONNX Runtime cannot run the model on photographs.
    """
    plain = Preprocess((PHOTOGRAPHS.mean[0],) * channels, (PHOTOGRAPHS.std,) * channels)
    known = candidates(channels)
    said = "no --preprocess was given, so the samples have mean 0 and deviation 1"
    if expected is not None:
        distances = {name: misfit(entry, PHOTOGRAPHS, expected) for name, entry in known.items()}
        best, own = min(distances, key=lambda name: distances[name]), misfit(plain, PHOTOGRAPHS, expected)
        figures = {"misfit": own, "misfit_best": distances[best]}
        if own < FITS or own <= distances[best]:
            return Finding("preprocess-missing", "OK", f"{said}, which fits the BatchNormalization", "", figures)
        message = f"{said}; the BatchNormalization of the model asks for others"
        return _named(message, [best], figures)
    message = f"{said}: whether the model was trained on such inputs is not known"
    known.pop(SAME_FAMILY)
    answers = _answers(model, known, runner)
    if answers is None:
        return Finding("preprocess-missing", "CHECK", message, "give the preprocess of the training", options=UNKNOWN)
    most = max(answers.values())
    fitting = [name for name in sorted(known, key=lambda name: -answers[name]) if answers[name] >= ALIKE * most]
    figures = {"information_best": most}
    return _named(message, fitting, figures)


def _named(message: str, fitting: Sequence[str], figures: dict[str, float]) -> Finding:
    """``CHECK``, with the preprocesses that may be that of the training."""
    remedy = "give the preprocess of the training"
    if fitting:
        remedy += f"; of the known ones, {' or '.join(fitting)} may be it"
    options = f"--preprocess {fitting[0]}" if len(fitting) == 1 else UNKNOWN
    return Finding("preprocess-missing", "CHECK", message, remedy, figures, options)


def _answers(model: ir.Model, preprocesses: dict[str, Preprocess], runner: Runner | None) -> dict[str, float] | None:
    """Information of the answers to photographs under each; None without class scores, or for other inputs."""
    ports = model_inputs(model)
    shape = tuple(int(size or 0) for size in (main_input(ports).shape or ())[1:])
    turned = is_channels_last(model)
    shape = (shape[2], *shape[:2]) if turned else shape
    if other_inputs(ports) or not suits_photographs(shape):
        return None
    sets, pixels = [], photographs(COUNT, shape, PREPROCESSES["zero-one"])
    for preprocess in preprocesses.values():
        low, high = (np.asarray(bound[:, None, None], np.float32) for bound in preprocess.bounds(shape[0]))
        images = pixels * (high - low) + low
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if turned else images
        sets.append(Samples(images, method="photographs"))
    found = informations(model, sets, runner)
    return None if found is None else dict(zip(preprocesses, found, strict=True))
