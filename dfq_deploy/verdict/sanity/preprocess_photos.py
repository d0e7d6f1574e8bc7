"""Judge a preprocess by the answers of a classifier of small color pictures to photographs."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, other_inputs
from dfq_deploy.graph.query import score_count
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.photographs import photographs, suits_photographs
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.preprocess_answers import SAME_FAMILY
from dfq_deploy.verdict.sanity.preprocess_fit import FAR, candidates
from dfq_deploy.verdict.sanity.response import informations

__all__ = ["photographs_finding", "photographs_under"]

LARGEST = 64
"""Side of the inputs that are judged: the scenes of six photographs are told apart in larger ones, however changed."""

COLORS = 3

COUNT = 48
"""Photographs: eight crops of each."""

CHECK, BAD = 0.9, 0.4
"""Information of the answers, as a part of that under the best known preprocess of a similar scale."""

RECOGNIZED = 0.25
"""Part of the largest information that answers to photographs hold under the right preprocess, or none is judged."""


def photographs_finding(
    model: ir.Model, preprocess: Preprocess, runner: Runner | None = None, *, worst: Level = "BAD"
) -> Finding | None:
    """Whether a classifier answers photographs as surely and variously as under the best known preprocess.

    Those of another scale (20 times) are left aside: inputs that are so much too large saturate the scores.

    Args:
        runner: what runs ``model``, if that is at hand.
        worst: ``CHECK`` where another sign speaks for ``preprocess``.

    Returns:
        None for a model that does not classify color pictures of at most 64 by 64, or that recognizes nothing.

    Raises:
        DfqError: ONNX Runtime cannot run the model on photographs.
    """
    shape = tuple(int(size or 0) for size in (main_input(model_inputs(model)).shape or ())[1:])
    classes, tries = score_count(model), candidates(COLORS, without=SAME_FAMILY)
    nearby = {name: other for name, other in tries.items() if other != preprocess and _alike(other, preprocess)}
    if classes is None or COLORS not in shape or max(shape) > LARGEST or not nearby:
        return None
    drawn = photographs_under(model, {"": preprocess, **nearby}, COUNT)
    found = informations(model, list(drawn.values()), runner) if drawn else None
    if found is None:
        return None
    known = dict(zip(drawn, found, strict=True))
    own, most = known.pop(""), max(found)
    if most < RECOGNIZED * np.log(min(COUNT, classes)):
        return None
    share, best = own / most, max(known, key=lambda name: known[name])
    level: Level = "OK" if share >= CHECK else worst if share < BAD else "CHECK"
    figures = {"photographs": own, "photographs_best": most}
    said = f"the answers to photographs hold {own:.2g} nats of information under --preprocess, and at best {most:.2g}"
    if level == "OK":
        return Finding("preprocess-fit", level, said, "", figures)
    message = f"--preprocess does not seem to fit the model: {said}, under {best}"
    remedy = f"give the mean and std of training; {best} fits better"
    return Finding("preprocess-fit", level, message, remedy, figures, best)


def photographs_under(model: ir.Model, preprocesses: Mapping[str, Preprocess], count: int) -> dict[str, Samples]:
    """The same photographs under each preprocess; none for a model of several inputs, or of no pictures."""
    ports = model_inputs(model)
    shape = tuple(int(size or 0) for size in (main_input(ports).shape or ())[1:])
    turned = is_channels_last(model)
    shape = (shape[2], *shape[:2]) if turned and len(shape) == 3 else shape
    if other_inputs(ports) or not suits_photographs(shape):
        return {}
    drawn, pixels = {}, photographs(count, shape, PREPROCESSES["zero-one"])
    for name, preprocess in preprocesses.items():
        low, high = (np.asarray(bound[:, None, None], np.float32) for bound in preprocess.bounds(shape[0]))
        images = pixels * (high - low) + low
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if turned else images
        drawn[name] = Samples(images, method="photographs")
    return drawn


def _alike(other: Preprocess, preprocess: Preprocess) -> bool:
    """True for inputs of a similar magnitude."""
    ratio = float(np.mean(preprocess.std)) / float(np.mean(other.std))
    return 1 / FAR < ratio < FAR
