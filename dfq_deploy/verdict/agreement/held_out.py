"""Held-out inputs of several kinds, none of which calibrates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, sample_shape
from dfq_deploy.samples.batches import held_out_of
from dfq_deploy.samples.photographs import JUDGING, photographs, suits_photographs
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count, is_large, is_text_line
from dfq_deploy.synthesis.bounds import sample_bounds
from dfq_deploy.synthesis.procedural.inputs import InputRanges, is_drawn
from dfq_deploy.synthesis.session import synthesize_from

__all__ = [
    "BY_RULE",
    "DATA",
    "PHOTOGRAPHS",
    "WRITTEN",
    "HeldOut",
    "as_photographs",
    "held_out_sets",
    "kinds_of",
    "takes_photographs",
]

BESIDE_PHOTOGRAPHS = (2, 4)
"""Photographs for each procedural input, of small and of large inputs: photographs decide, the others add classes."""

PICTURED = (256, 52)
"""Photographs, of small and of large inputs: with the procedural ones beside them 64 or more."""

FURTHER = (256, 76)
"""So many more where these do not settle how many answers change."""

BY_RULE = "procedural"
PHOTOGRAPHS = "photographs"
WRITTEN = "written"
DATA = "data"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Inputs of one kind that no step of a calibration has seen.

    Args:
        kind: ``procedural``, ``photographs``, ``written`` (photographs with text), ``data``, or the method that made
            the samples.
        samples: in the model's own input space, without labels unless they are real data.
        calibrated: inputs of this kind calibrated, so that they judge their own result too kindly.
        further: draws more inputs of this kind, for results that these do not settle; None where there are none.
    """

    kind: str
    samples: Samples
    calibrated: bool
    further: Callable[[], Samples] | None = None


def held_out_sets(
    model: ir.Model,
    samples: Samples,
    *,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    ranges: InputRanges | None = None,
    count: int | None = None,
) -> tuple[HeldOut, ...]:
    """The kinds of inputs to judge a calibration with, the most trustworthy last.

    ============== =======================================================================================
    own            what :func:`dfq_deploy.samples.batches.split_held_out` keeps back of ``samples``; none of
                   fewer than 8, which all calibrate
    procedural     inputs drawn by rule: pictures, signals, token ids; beside photographs half as many of small
                   inputs, a quarter of large ones, else 256 or 64
    photographs    crops of photographs that never calibrate, 256 or 52, where the input is an image and not of the
                   size of one line of text, which no photograph shows; 256 or 76 more, with procedural ones, are
                   drawn where these do not settle the result
    ============== =======================================================================================

    Args:
        model: the float model as it was given.
        samples: all samples of the calibration; empty ``method`` is real data.
        preprocess: from pixels to the input.
        seed: of the calibration; the inputs are drawn from others.
        ranges: ``--input-range``.
        count: of photographs, or of procedural inputs where these stand alone; no further ones are drawn then.

    Raises:
        ModelError: the shape of an input is open.
    """
    own, known, large = samples.method or DATA, kinds_of(samples), is_large(sample_shape(model))
    pictured = takes_photographs(model)
    beside = BESIDE_PHOTOGRAPHS[large] if pictured and PHOTOGRAPHS not in known else 1
    first = default_count(sample_shape(model)) if beside == 1 else PICTURED[large]
    first = first if count is None else count

    def by_rule(photographs: int, kind: int) -> Samples:
        return synthesize_from(
            model, BY_RULE, (), count=max(1, photographs // beside), preprocess=preprocess, seed=_other(seed, kind),
            device="cpu", ranges=ranges,
        )  # fmt: skip

    def pictures(drawn: Samples, photographs: int, kind: int) -> Samples:
        return as_photographs(model, drawn, preprocess, ranges, _other(seed, kind), count=photographs)

    drawn, more = by_rule(first, 1), FURTHER[large]
    goes_on = count is None and pictured and beside > 1
    ruled = not known.isdisjoint((BY_RULE, "rule"))
    found = [*_own(samples, own), HeldOut(BY_RULE, drawn, ruled, partial(by_rule, more, 3) if goes_on else None)]
    if pictured:
        further = partial(pictures, drawn, more, 4) if goes_on else None
        found.append(HeldOut(PHOTOGRAPHS, pictures(drawn, first, 2), PHOTOGRAPHS in known, further))
    return tuple(found)


def kinds_of(samples: Samples) -> frozenset[str]:
    """The kinds of inputs that ``samples`` are of: the method that made them, or several, joined by ``+``."""
    return frozenset((samples.method or DATA).split("+"))


def _own(samples: Samples, kind: str) -> Iterator[HeldOut]:
    held = held_out_of(samples)
    if held is not samples:
        yield HeldOut(kind, held if kind == DATA else replace(held, labels=None), True)


def as_photographs(
    model: ir.Model,
    drawn: Samples,
    preprocess: Preprocess | None,
    ranges: InputRanges | None,
    seed: int,
    folder: Path = JUDGING,
    *,
    count: int | None = None,
) -> Samples:
    """Photographs with the other inputs of ``drawn`` samples, in turn.

    Args:
        count: None is as many as there are ``drawn`` samples.
        folder: of the photographs; by default those that judge and never calibrate.
    """
    main, turned = main_input(model_inputs(model)), is_channels_last(model)
    pixels = sample_bounds(model, preprocess, ranges or {})
    count = len(drawn) if count is None else count
    images = photographs(count, _channels_first(model), pixels, seed, folder)
    images = images.transpose(0, 2, 3, 1) if turned else images
    images = np.ascontiguousarray(images if main.is_float else np.rint(images))
    extra = {name: rows[np.arange(count) % len(drawn)] for name, rows in drawn.extra.items()}
    return replace(drawn, images=images, extra=extra, method=PHOTOGRAPHS)


def takes_photographs(model: ir.Model) -> bool:
    """Whether the main input is an image that could be a photograph; a line of text could not."""
    shape = _channels_first(model)
    return not is_drawn(main_input(model_inputs(model))) and suits_photographs(shape) and not is_text_line(*shape[1:])


def _channels_first(model: ir.Model) -> tuple[int, ...]:
    """Shape of one sample, (C, H, W) for an image."""
    shape = sample_shape(model)
    return (shape[2], *shape[:2]) if is_channels_last(model) else shape


def _other(seed: int, kind: int) -> int:
    """A seed that a calibration with ``seed`` does not draw from."""
    return int(np.random.SeedSequence([seed, kind]).generate_state(1)[0])
