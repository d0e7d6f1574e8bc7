"""Compare what a network answers to the same photographs under several preprocesses."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.sample_quality import information_of
from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, other_inputs
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.photographs import photographs, suits_photographs
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import is_large
from dfq_deploy.verdict.sanity.response import class_probabilities

__all__ = ["COLORS", "COUNTS", "GIVEN", "answers_to_photographs", "information_on_photographs", "photographs_under"]

COUNTS = {False: 48, True: 12}
"""Photographs that answers are compared on, eight crops of each or two; by whether the input is large."""

GIVEN = "given"
"""Name of the preprocess that is judged."""

COLORS = 3
"""Channels of a picture of color, which stand first or last."""


def photographs_under(model: ir.Model, preprocesses: Mapping[str, Preprocess], count: int = 0) -> dict[str, Samples]:
    """The same photographs under each preprocess; none for a model of several inputs, or of no pictures.

    Args:
        count: of photographs; 0 takes 48 small or 12 large ones.
    """
    ports = model_inputs(model)
    shape = tuple(int(size or 0) for size in (main_input(ports).shape or ())[1:])
    turned = is_channels_last(model)
    shape = (shape[2], *shape[:2]) if turned else shape
    if other_inputs(ports) or not suits_photographs(shape):
        return {}
    drawn, pixels = {}, photographs(count or COUNTS[is_large(shape)], shape, PREPROCESSES["zero-one"])
    for name, preprocess in preprocesses.items():
        low, high = (np.asarray(bound[:, None, None], np.float32) for bound in preprocess.bounds(shape[0]))
        images = pixels * (high - low) + low
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if turned else images
        drawn[name] = Samples(images, method="photographs")
    return drawn


def answers_to_photographs(
    model: ir.Model,
    preprocess: Preprocess,
    known: Mapping[str, Preprocess],
    runner: Runner | None = None,
    count: int = 0,
) -> dict[str, NDArray[np.float64]] | None:
    """Class probabilities (N, K) of photographs under ``preprocess`` (:data:`GIVEN`) and under each that is known.

    They show whether a network tells pictures apart under a preprocess where the images of a user cannot, which may be
    of few classes. None for a model without class scores, or of no pictures of color: grey ones are hardly trained on
    photographs, and what is answered to these shows nothing.

    Args:
        runner: what runs ``model``, if that is at hand.
        count: of photographs; 0 takes 48 small or 12 large ones.

    Raises:
        DfqError: ONNX Runtime cannot run the model on photographs.
    """
    drawn = photographs_under(model, {GIVEN: preprocess, **known}, count)
    colored = bool(drawn) and COLORS in drawn[GIVEN].images.shape[1::2]
    found = class_probabilities(model, list(drawn.values()), runner) if colored else None
    return None if found is None else dict(zip(drawn, found, strict=True))


def information_on_photographs(
    model: ir.Model, preprocess: Preprocess, known: Mapping[str, Preprocess], runner: Runner | None = None
) -> dict[str, float] | None:
    """Nats that an answer to a photograph holds, with the arguments and errors of :func:`answers_to_photographs`."""
    found = answers_to_photographs(model, preprocess, known, runner)
    return None if found is None else {name: information_of(entry) for name, entry in found.items()}
