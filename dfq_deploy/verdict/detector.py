"""Judge the head of a detector: boxes and scores apart."""

import math
from collections.abc import Iterator

from dfq_deploy.evaluation.detection.head_errors import HeadErrors
from dfq_deploy.evaluation.detection.map_metric import DetectionFigures
from dfq_deploy.verdict.finding import LEVELS, Finding, Level

__all__ = ["detector_decibels", "detector_finding", "precision_finding"]

OVERLAP = (0.9, 0.75)
"""Mean overlap of a box with float's from which on it is ``OK``, and below which it is ``BAD``: 0.75 is the middle of
the overlaps at which COCO counts a box as right, and a box that is found at 0.9 is right at nearly all of them."""

SHIFT = (0.05, 0.15)
"""How far a score of 0.5 may move for ``OK``, and beyond which it is ``BAD``; as far may the highest score fall."""

SNR = (20.0, 12.0)
"""As for any output, where boxes cannot be decoded."""

PRECISION = (0.02, 0.1)
"""Part of the mean average precision that may be lost for ``OK``, and beyond which it is ``BAD``."""

OWN_PRECISION = (0.05, 0.2)
"""The same at an overlap of 0.5 against float's own detections, all of which float finds."""

REMEDY = "measure it on real images: dfq-deploy evaluate FLOAT.onnx QUANTIZED.onnx --data FOLDER --metric map"


def detector_finding(head: HeadErrors, count: int, kind: str) -> Finding:
    """What the boxes and scores of a detector on ``count`` inputs of a kind mean."""
    said, levels = [], []
    if head.overlap is None:
        levels.append(_level(-head.boxes_snr, -SNR[0], -SNR[1]))
        said.append(f"boxes have {head.boxes_snr:.1f} dB of signal to noise")
    else:
        levels.append(_level(-head.overlap, -OVERLAP[0], -OVERLAP[1]))
        said.append(f"boxes overlap float's by {100 * head.overlap:.1f} %")
    if head.shift is None:
        levels.append(_level(-head.scores_snr, -SNR[0], -SNR[1]) if head.overlap is None else "CHECK")
        said.append(
            f"scores have {head.scores_snr:.1f} dB of signal to noise"
            + ("" if head.overlap is None else ", and float detects nothing here")
        )
    else:
        fall = head.best_float - head.best_quantized
        levels.append(_level(max(head.shift, fall), *SHIFT))
        said.append(
            f"a score of 0.5 moves by {head.shift:.3f}, the highest of {head.best_float:.2f} becomes "
            f"{head.best_quantized:.2f}"
        )
    level = max(levels, key=LEVELS.index)
    figures = {name: value for name, value in head.to_json().items() if value is not None}
    return Finding(
        "detector", level, f"{', '.join(said)} on {count} inputs ({kind})", "" if level == "OK" else REMEDY, figures
    )


def detector_decibels(head: HeadErrors) -> float:
    """How good boxes and scores are in one figure, of which more is better, to compare quantizations of one detector.

    20 dB is the largest error that is ``OK`` (:func:`detector_finding`), twice the error is 6 dB less; the worst of
    boxes and scores counts. Where no box can be decoded, or no score is high enough, it is the signal-to-noise ratio.
    """
    found = [head.boxes_snr if head.overlap is None else _decibels(1 - head.overlap, 1 - OVERLAP[0])]
    if head.shift is not None:
        found.append(_decibels(max(head.shift, head.best_float - head.best_quantized), SHIFT[0]))
    elif head.overlap is None:
        found.append(head.scores_snr)
    return min(found)


def _decibels(error: float, good: float) -> float:
    return math.inf if error <= 0 else SNR[0] + 20 * math.log10(good / error)


def precision_finding(figures: DetectionFigures) -> Iterator[Finding]:
    """What the mean average precision means."""
    own = figures.against == "float"
    pair = (figures.float_50, figures.quantized_50) if own else (figures.of_float, figures.of_quantized)
    if pair[0] <= 0:
        message = f"the float model finds none of the {figures.objects} objects: look at --preprocess and the classes"
        yield Finding("precision", "CHECK", message)
        return
    lost = (pair[0] - pair[1]) / pair[0]
    level = _level(lost, *(OWN_PRECISION if own else PRECISION))
    what = "mAP@0.5 against float's own detections" if own else "mAP@0.5:0.95"
    message = f"{what} falls by {100 * lost:.1f} %, from {pair[0]:.3f} to {pair[1]:.3f} ({figures.objects} objects)"
    remedy = "" if level == "OK" else "keep the layers that hurt in float, or give real images with --data"
    yield Finding("precision", level, message, remedy, {"lost": lost})


def _level(loss: float, good: float, bad: float) -> Level:
    """What a loss means, of which less is better."""
    return "OK" if loss <= good else "CHECK" if loss <= bad else "BAD"
