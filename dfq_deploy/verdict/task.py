"""Judge a model by what it is for, where that is stated: classes of pixels, numbers, embeddings."""

import math
from collections.abc import Mapping

from dfq_deploy.evaluation.task_errors import TaskErrors
from dfq_deploy.verdict.finding import Finding, Level

__all__ = ["task_decibels", "task_finding"]

LIMITS: Mapping[str, tuple[float, float]] = {"segment": (0.9, 0.75), "regress": (0.95, 0.9), "embed": (0.98, 0.95)}
"""The figure of each task from which on it is ``OK``, and below which it is ``BAD``.

Regions are judged as the boxes of detectors are. Landmark networks are wrong by about 5 % of the distance of the eyes
on their own benchmarks, which is about the spread of a face: noise may be as large, and not twice as large. A cosine
of 0.98 is noise of 14 dB."""

SAID = {
    "segment": "classes of pixels overlap float's by {0:.1f} %",
    "regress": "values are off by {1:.1f} % of their spread",
    "embed": "embeddings have a cosine of {2:.3f} to float's",
}

GOOD = 20.0
"""Decibels of what is just ``OK``, as for any output."""

REMEDY = "measure it on real inputs: dfq-deploy evaluate FLOAT.onnx QUANTIZED.onnx --data FOLDER"


def task_finding(errors: TaskErrors, count: int, kind: str) -> Finding:
    """What the figure of the task on ``count`` inputs of a kind means."""
    good, bad = LIMITS[errors.task]
    level: Level = "OK" if errors.figure >= good else "CHECK" if errors.figure >= bad else "BAD"
    said = SAID[errors.task].format(100 * errors.figure, 100 * (1 - errors.figure), errors.figure)
    message = f"output '{errors.output}': {said} on {count} inputs ({kind}, --task {errors.task})"
    return Finding("task", level, message, "" if level == "OK" else REMEDY, {"figure": errors.figure})


def task_decibels(errors: TaskErrors) -> float:
    """The same in decibels, of which more is better: 20 where it is just ``OK``, twice the error is 6 dB less.

    The error is what is missing to 1; of a cosine, which falls with the square of the noise, twice that is 3 dB.
    """
    missing, good = 1 - errors.figure, 1 - LIMITS[errors.task][0]
    factor = 10 if errors.task == "embed" else 20
    if missing <= 0:
        return math.inf
    return -math.inf if math.isinf(missing) else GOOD + factor * math.log10(good / missing)
