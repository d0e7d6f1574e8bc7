"""Judge samples that were drawn without a preprocess: do mean 0 and deviation 1 fit the network."""

from collections.abc import Sequence

import onnx_ir as ir

from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.input_statistics import InputStatistics
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.input_scale import response_fits
from dfq_deploy.verdict.sanity.photograph_answers import photographs_under
from dfq_deploy.verdict.sanity.preprocess_answers import SAME_FAMILY
from dfq_deploy.verdict.sanity.preprocess_fit import BY_NAME, FITS, PHOTOGRAPHS, candidates, misfit
from dfq_deploy.verdict.sanity.response import informations

__all__ = ["UNKNOWN", "missing_finding"]

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
    which the answers to photographs are surest are named; without class scores, those under which the first layer's
    response to them is of the scale of its bias, where it is not under all of them.

    Args:
        expected: what the first BatchNormalization tells of the input; None where there is none.
        channels: of the input.
        runner: what runs ``model``, if that is at hand.

    Raises:
        DfqError: ONNX Runtime cannot run the model on photographs.
    """
    plain = Preprocess((PHOTOGRAPHS.mean[0],) * channels, (PHOTOGRAPHS.std,) * channels)
    known = candidates(channels, without=SAME_FAMILY if expected is None else "")
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
    drawn = photographs_under(model, known, COUNT)
    answers = informations(model, list(drawn.values()), runner) if drawn else None
    if answers is None:
        fitting = [name for name, samples in drawn.items() if response_fits(model, samples)]
        return _named(message, fitting if len(fitting) < len(drawn) else [], {})
    told = dict(zip(drawn, answers, strict=True))
    most = max(told.values())
    fitting = [name for name in sorted(known, key=lambda name: -told[name]) if told[name] >= ALIKE * most]
    figures = {"information_best": most}
    return _named(message, fitting, figures)


def _named(message: str, fitting: Sequence[str], figures: dict[str, float]) -> Finding:
    """``CHECK``, with the preprocesses that may be that of the training."""
    remedy = "give the preprocess of the training"
    if fitting:
        remedy += f"; of the known ones, {' or '.join(name.removeprefix(BY_NAME) for name in fitting)} may be it"
    options = fitting[0] if len(fitting) == 1 else UNKNOWN
    return Finding("preprocess-missing", "CHECK", message, remedy, figures, options)
