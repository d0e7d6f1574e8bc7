"""Judge a preprocess by the answers of a classifier of small color pictures to photographs.

Larger inputs are not judged: the scenes of six photographs are told apart in them, however they are changed.
"""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input, model_inputs
from dfq_deploy.graph.query import score_count
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.sizes import is_large
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.photograph_answers import COLORS, COUNTS, GIVEN, information_on_photographs
from dfq_deploy.verdict.sanity.preprocess_answers import SAME_FAMILY
from dfq_deploy.verdict.sanity.preprocess_fit import FAR, candidates

__all__ = ["photographs_finding"]

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
    if classes is None or is_large(shape) or COLORS not in shape or not nearby:
        return None
    known = information_on_photographs(model, preprocess, nearby, runner)
    if known is None or max(known.values()) < RECOGNIZED * np.log(min(COUNTS[False], classes)):
        return None
    most, own = max(known.values()), known.pop(GIVEN)
    share, best = own / most, max(known, key=lambda name: known[name])
    level: Level = "OK" if share >= CHECK else worst if share < BAD else "CHECK"
    figures = {"photographs": own, "photographs_best": most}
    shown = " ".join(preprocess.options)
    said = f"the answers to photographs hold {own:.2g} nats of information under {shown}, and at best {most:.2g}"
    if level == "OK":
        return Finding("preprocess-fit", level, said, "", figures)
    message = f"{shown} does not seem to fit the model: {said}, under {best}"
    remedy = f"give the mean and std of training; {best} fits better"
    return Finding("preprocess-fit", level, message, remedy, figures, best)


def _alike(other: Preprocess, preprocess: Preprocess) -> bool:
    """True for inputs of a similar magnitude."""
    ratio = float(np.mean(preprocess.std)) / float(np.mean(other.std))
    return 1 / FAR < ratio < FAR
