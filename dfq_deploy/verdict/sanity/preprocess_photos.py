"""Judge a preprocess by the answers of a classifier of color pictures to photographs."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input, model_inputs
from dfq_deploy.graph.query import score_count
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.sizes import is_large
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.photograph_answers import (
    COLORS,
    COUNTS,
    GIVEN,
    answers_to_photographs,
    information_on_photographs,
)
from dfq_deploy.verdict.sanity.preprocess_answers import SAME_FAMILY
from dfq_deploy.verdict.sanity.preprocess_fit import FAR, candidates

__all__ = ["photographs_finding"]

CHECK, BAD = 0.9, 0.4
"""Information of the answers, as a part of that under the best known preprocess of a similar scale."""

RECOGNIZED = 0.25
"""Part of the largest information that answers to photographs hold under the right preprocess, or none is judged."""

FEW = 5
"""Classifiers of fewer classes are not judged: those of defects or of faces may answer all photographs alike."""

MANY = 100
"""Classifiers of large pictures are judged from so many classes on: those of fewer may know no natural pictures."""

LARGE_COUNT = 6
"""Large photographs, one crop of each."""

UNSURE = 0.3
"""Nats of entropy that answers to large photographs have more than under the best known preprocess."""


def photographs_finding(
    model: ir.Model, preprocess: Preprocess, runner: Runner | None = None, *, worst: Level = "BAD"
) -> Finding | None:
    """Whether a classifier answers photographs as well as under the best known preprocess of a similar scale.

    Answers to pictures of at most 64 by 64 are sure and various under the right one. Large pictures of six scenes are
    told apart under any, so that only how sure the answers are is compared, and only where the preprocess is none of
    the known ones, which are too near to each other for that. Those of another scale (20 times) are left aside: inputs
    that are so much too large saturate the scores.

    Args:
        runner: what runs ``model``, if that is at hand.
        worst: ``CHECK`` where another sign speaks for ``preprocess``.

    Returns:
        None for a model that does not classify color pictures, that has fewer than five classes, or that recognizes
        nothing, and for large pictures of few classes, under a known preprocess, or whose answers are as sure under the
        one given.

    Raises:
        DfqError: ONNX Runtime cannot run the model on photographs.
    """
    shape = tuple(int(size or 0) for size in (main_input(model_inputs(model)).shape or ())[1:])
    classes, tries = score_count(model), candidates(COLORS, without=SAME_FAMILY)
    nearby = {name: other for name, other in tries.items() if other != preprocess and _alike(other, preprocess)}
    if classes is None or classes < FEW or COLORS not in shape or not nearby:
        return None
    if not is_large(shape):
        return _of_small(model, preprocess, nearby, runner, worst)
    return (
        None if classes < MANY or preprocess in PREPROCESSES.values() else _of_large(model, preprocess, nearby, runner)
    )


def _of_small(
    model: ir.Model, preprocess: Preprocess, nearby: Mapping[str, Preprocess], runner: Runner | None, worst: Level
) -> Finding | None:
    """By the information of the answers."""
    known = information_on_photographs(model, preprocess, nearby, runner)
    if known is None or max(known.values()) < RECOGNIZED * np.log(min(COUNTS[False], score_count(model) or 1)):
        return None
    most, own = max(known.values()), known.pop(GIVEN)
    share, best = own / most, max(known, key=lambda name: known[name])
    level: Level = "OK" if share >= CHECK else worst if share < BAD else "CHECK"
    figures = {"photographs": own, "photographs_best": most}
    shown = " ".join(preprocess.options)
    said = f"the answers to photographs hold {own:.2g} nats of information under {shown}, and at best {most:.2g}"
    return _finding(level, shown, said, best, figures)


def _of_large(
    model: ir.Model, preprocess: Preprocess, nearby: Mapping[str, Preprocess], runner: Runner | None
) -> Finding | None:
    """By the entropy of the answers; None where it speaks for ``preprocess``, which is little evidence."""
    answers = answers_to_photographs(model, preprocess, nearby, runner, LARGE_COUNT)
    if answers is None:
        return None
    known = {name: float(-(rows * np.log(rows + 1e-12)).sum(axis=-1).mean()) for name, rows in answers.items()}
    own, best = known.pop(GIVEN), min(known, key=lambda name: known[name])
    if own - known[best] <= UNSURE:
        return None
    least, shown = known[best], " ".join(preprocess.options)
    said = f"the answers to photographs have {own:.2g} nats of entropy under {shown}, and at least {least:.2g}"
    figures = {"photographs_entropy": own, "photographs_entropy_best": least}
    return _finding("CHECK", shown, said, best, figures)


def _finding(level: Level, shown: str, said: str, best: str, figures: dict[str, float]) -> Finding:
    if level == "OK":
        return Finding("preprocess-fit", level, said, "", figures)
    message = f"{shown} does not seem to fit the model: {said}, under {best}"
    remedy = f"give the mean and std of training; {best} fits better"
    return Finding("preprocess-fit", level, message, remedy, figures, best)


def _alike(other: Preprocess, preprocess: Preprocess) -> bool:
    """True for inputs of a similar magnitude."""
    ratio = float(np.mean(preprocess.std)) / float(np.mean(other.std))
    return 1 / FAR < ratio < FAR
