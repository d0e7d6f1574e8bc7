"""Judge a preprocess by the answers of a network that has no BatchNormalization."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.query import score_count
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.photograph_answers import GIVEN, information_on_photographs
from dfq_deploy.verdict.sanity.preprocess_fit import FAR, PixelStatistics, candidates, pixel_statistics
from dfq_deploy.verdict.sanity.response import information, informations, label_hits

__all__ = ["OTHER_SCALE", "SAME_FAMILY", "answers_finding", "plenty_finding"]

ANSWERS_BAD, ANSWERS_CHECK = 0.7, 0.975
"""Information of the answers on real images, as a part of the best preprocess' one."""

RECOGNIZED, RECOGNIZED_DRAWN = 0.5, 0.1
"""Under the right preprocess, real images and drawn ones give at least these parts of the largest information."""

DRAWN_BAD, DRAWN_CHECK = 0.25, 0.5
"""The same on pictures drawn by rule, in which a network recognizes less."""

PLENTY = 0.25
"""No preprocess gives more than twice this part on drawn pictures, so the others need not be tried."""

FEW_CLASSES = 2 / 3
"""Images whose answers hold a smaller part of the largest information, whatever the preprocess, may be of few classes:
at most 0.55 of it on images of one class, and at least 0.75 on images of all, in six networks."""

PERHAPS = 0.9
"""A preprocess under which answers to photographs hold so large a part of the most may be that of the training."""

SAME_FAMILY = "cifar10"
"""Too near to imagenet for answers to tell them apart."""

OTHER_SCALE = "other_scale"
"""Figure: 1 where inputs under the best preprocess are many times larger or smaller than under the one given."""

FEWEST = 16
"""Samples that answers can be compared on."""

OWN = "own"
"""The candidate that standardizes the given images."""


def plenty_finding(
    model: ir.Model, samples: Samples, preprocess: Preprocess, information: float | None
) -> Finding | None:
    """``OK`` where the answers to drawn samples hold so much that no other preprocess can fit; None where unknown.

    Args:
        samples: all of them, under ``preprocess``.
        information: of the answers to them, in nats, where it is known.
    """
    most = np.log(min(len(samples), score_count(model) or 1))
    if information is None or not samples.method or len(samples) < FEWEST or information < PLENTY * most:
        return None
    shown = " ".join(preprocess.options)
    message = f"the answers hold {information:.2g} nats of information under {shown}, plenty for drawn pictures"
    return Finding("preprocess-fit", "OK", message, "", {"information": information})


def answers_finding(
    model: ir.Model, samples: Samples, preprocess: Preprocess, channel_axis: int, runner: Runner | None = None
) -> Finding | None:
    """Whether the network answers best under ``preprocess``; None without class scores, or of too few samples.

    For networks without BatchNormalization: the pictures are put through each known preprocess, and the one under
    which the answers are sure and various fits best (:func:`dfq_deploy.verdict.sanity.response.information`).

    Args:
        samples: real images under ``preprocess``, or pictures drawn by rule, which their ``method`` tells.
        runner: what runs ``model``, if that is at hand.

    Raises:
        DfqError: ONNX Runtime cannot run the model on the samples.
    """
    own, drawn = information(model, samples, runner) if len(samples) >= FEWEST else None, bool(samples.method)
    if own is None:
        return None
    most = np.log(min(len(samples), score_count(model) or 1))
    plenty = plenty_finding(model, samples, preprocess, own)
    if plenty is not None:
        return plenty
    tries = candidates(samples.images.shape[channel_axis], without=SAME_FAMILY)
    if not drawn:
        tries[OWN] = _standardized(pixel_statistics(samples, preprocess, channel_axis))
    others = {name: other for name, other in tries.items() if other != preprocess}
    exchanged = {name: _exchanged(samples, preprocess, other, channel_axis) for name, other in others.items()}
    found = informations(model, list(exchanged.values()), runner) or [0.0] * len(others)
    tried = dict.fromkeys(tries, own) | dict(zip(others, found, strict=True))
    if max(*tried.values(), own) < (RECOGNIZED_DRAWN if drawn else RECOGNIZED) * most:
        return None
    best = max(tried, key=lambda name: tried[name])
    shown = " ".join(preprocess.options)
    finding = _answers(own, shown, tried[best], best if best != OWN else _typed(tries[OWN]), drawn=drawn)
    if finding.level != "OK" and best in exchanged and not drawn:  # drawn ones got their labels under the preprocess
        known = {name: other for name, other in others.items() if name != OWN}
        finding = _defended(finding, model, (samples, exchanged[best]), preprocess, known, runner)
        if finding.level == "OK":
            return finding
    sizes = [float(np.mean(entry.std)) for entry in (preprocess, tries.get(best, preprocess))]
    other = max(sizes) / min(sizes) >= FAR
    return replace(finding, figures={**(finding.figures or {}), OTHER_SCALE: float(other)})


def _standardized(pixels: PixelStatistics) -> Preprocess:
    """The preprocess that makes mean 0 and deviation 1 of pixels, as most trainings do."""
    return Preprocess(pixels.mean, (max(pixels.std, 1 / 255),) * len(pixels.mean))


def _typed(preprocess: Preprocess) -> str:
    mean, std = (",".join(f"{value:.2f}" for value in values) for values in (preprocess.mean, preprocess.std))
    return f"--mean {mean} --std {std}"


def _answers(own: float, shown: str, best: float, name: str, *, drawn: bool) -> Finding:
    share = own / max(best, own, 1e-6)
    bad, check = (DRAWN_BAD, DRAWN_CHECK) if drawn else (ANSWERS_BAD, ANSWERS_CHECK)
    level: Level = "BAD" if share < bad else "CHECK" if share < check else "OK"
    figures = {"information": own, "information_best": max(best, own)}
    said = f"the answers hold {own:.2g} nats of information under {shown}, and at best {max(best, own):.2g}"
    if level == "OK":
        return Finding("preprocess-fit", level, said, "", figures)
    message = f"{shown} does not seem to fit the model: {said}, under {name}"
    remedy = f"give the mean and std of training; {name} fits better"
    return Finding("preprocess-fit", level, message, remedy, figures, name)


def _defended(
    finding: Finding,
    model: ir.Model,
    pair: tuple[Samples, Samples],
    preprocess: Preprocess,
    known: dict[str, Preprocess],
    runner: Runner | None,
) -> Finding:
    """``finding`` after its defence: images of few classes hold little information whatever the preprocess.

    What their labels say counts. Without labels photographs do, which are of many classes. Where they are recognized
    under ``preprocess``, and the images are under no known one, it is the images that do not fit.

    Args:
        pair: the samples under the preprocess, and under the one that fits best.
        known: preprocesses to compare with on photographs.
    """
    samples = pair[0]
    shown, figures = " ".join(preprocess.options), finding.figures or {}
    if samples.labels is not None:
        hits, others_hits = (label_hits(model, entry, runner) for entry in pair)
        if hits is None or hits <= (others_hits or 0.0):
            return finding
        said = f"more of the labels are hit under {shown} ({100 * hits:.0f} %) than under {finding.options}"
        return Finding("preprocess-fit", "OK", said, "", {"label_hits": hits})
    most = np.log(min(len(samples), score_count(model) or 1))
    few = figures["information_best"] < FEW_CLASSES * most
    told = information_on_photographs(model, preprocess, known, runner)
    if told is None or max(told.values()) < PLENTY * most or told[GIVEN] < PERHAPS * max(told.values()):
        return finding
    own, best = told[GIVEN], max(told.values())
    if not few:
        dark = own >= ANSWERS_CHECK * best and finding.options not in known
        return _other_images(finding, shown, own) if dark else finding
    if own < ANSWERS_CHECK * best:
        return replace(finding, level="CHECK")
    said = f"the images seem to be of few classes, but answers to photographs hold {own:.2g} nats of information"
    figures = {"information": own, "information_best": best}
    return Finding("preprocess-fit", "OK", f"{said} under {shown}, and at best {best:.2g}", "", figures)


def _other_images(finding: Finding, shown: str, on_photographs: float) -> Finding:
    """Photographs are recognized under the preprocess, so it is the images that do not fit: dark or pale ones, say."""
    figures = finding.figures or {}
    message = (
        f"the images are unlike those of the training: the answers to photographs hold {on_photographs:.2g} nats of "
        f"information under {shown}, those to the images {figures['information']:.2g}, and "
        f"{figures['information_best']:.2g} under {finding.options}"
    )
    remedy = "look at the images: they may be much darker, paler or brighter than photographs, or normalized before"
    return Finding("preprocess-fit", "CHECK", message, remedy, figures, "--data FOLDER")


def _exchanged(samples: Samples, old: Preprocess, new: Preprocess, channel_axis: int) -> Samples:
    """The same pixels under another preprocess."""
    channels = samples.images.shape[channel_axis]
    (low, high), (other_low, other_high) = old.bounds(channels), new.bounds(channels)
    factor = (other_high - other_low) / (high - low)
    moved = np.moveaxis(samples.images, channel_axis, -1)
    made: NDArray[np.float32] = np.moveaxis((moved - low) * factor + other_low, -1, channel_axis)
    images = np.ascontiguousarray(made, np.float32)
    return Samples(images, method=samples.method, labels=samples.labels, extra=samples.extra)
