"""Held-out inputs of several kinds, none of which calibrates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs, sample_shape
from dfq_deploy.samples.batches import held_out_of
from dfq_deploy.samples.photographs import JUDGING, photographs, suits_photographs
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count, is_large, is_text_line
from dfq_deploy.synthesis.procedural.inputs import InputRanges, is_drawn
from dfq_deploy.synthesis.session import sample_bounds, synthesize_from

__all__ = [
    "BY_RULE",
    "DATA",
    "PHOTOGRAPHS",
    "HeldOut",
    "as_photographs",
    "held_out_sets",
    "kinds_of",
    "takes_photographs",
]

BESIDE_PHOTOGRAPHS = (2, 4)
"""Photographs for each procedural input, of small and of large inputs: photographs decide, the others add classes."""

BY_RULE = "procedural"
PHOTOGRAPHS = "photographs"
DATA = "data"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Inputs of one kind that no step of a calibration has seen.

    Args:
        kind: ``procedural``, ``photographs``, ``data``, or the method that made the samples.
        samples: in the model's own input space, without labels unless they are real data.
        calibrated: inputs of this kind calibrated, so that they judge their own result too kindly.
    """

    kind: str
    samples: Samples
    calibrated: bool


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
    procedural     ``count`` inputs drawn by rule: pictures, signals, token ids; beside photographs half as many of
                   small inputs, a quarter of large ones
    photographs    ``count`` crops of photographs that never calibrate, where the input is an image and not of the
                   size of one line of text, which no photograph shows
    ============== =======================================================================================

    Args:
        model: the float model as it was given.
        samples: all samples of the calibration; empty ``method`` is real data.
        preprocess: from pixels to the input.
        seed: of the calibration; the inputs are drawn from others.
        ranges: ``--input-range``.
        count: of each kind that is drawn; None is 256 where the input is small, else 64, of which all agreeing is at
            least 94.4 %.

    Raises:
        ModelError: the shape of an input is open.
    """
    own, known = samples.method or DATA, kinds_of(samples)
    count = default_count(sample_shape(model)) if count is None else count
    found = list(_own(samples, own))
    ruled, pictured = not known.isdisjoint((BY_RULE, "rule")), takes_photographs(model)
    share = BESIDE_PHOTOGRAPHS[is_large(sample_shape(model))] if pictured and PHOTOGRAPHS not in known else 1
    drawn = synthesize_from(
        model,
        BY_RULE,
        (),
        count=max(1, count // share),
        preprocess=preprocess,
        seed=_other(seed, 1),
        device="cpu",
        ranges=ranges,
    )
    found.append(HeldOut(BY_RULE, drawn, ruled))
    if pictured:
        pictures = as_photographs(model, drawn, preprocess, ranges, _other(seed, 2), count=count)
        found.append(HeldOut(PHOTOGRAPHS, pictures, PHOTOGRAPHS in known))
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
