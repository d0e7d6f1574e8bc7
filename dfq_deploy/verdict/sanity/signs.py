"""Weigh the signs for and against a preprocess against each other."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dfq_deploy.verdict.finding import LEVELS, Finding
from dfq_deploy.verdict.sanity.input_scale import PLAIN, RESPONSE, RESPONSE_LARGE
from dfq_deploy.verdict.sanity.preprocess_answers import OTHER_SCALE
from dfq_deploy.verdict.sanity.preprocess_offsets import TIMES_BAD

__all__ = ["agreed", "weighed"]

CODES = ("preprocess-fit", "samples-scale")

NO_CLASSES = "or the output holds no class scores: say --task regress, segment or embed"


def agreed(offsets: Finding | None, answers: Finding | None) -> Iterator[Finding]:
    """The severer of two findings on a preprocess; doubtful answers and offsets several times too large are ``BAD``.

    Args:
        offsets: of :func:`.preprocess_offsets.offsets_finding`.
        answers: of :func:`.preprocess_answers.answers_finding`.
    """
    found = [entry for entry in (offsets, answers) if entry is not None]
    if not found:
        return
    severest = max(reversed(found), key=lambda entry: LEVELS.index(entry.level))
    if answers is not None and offsets is not None and answers.level == "CHECK":
        figures = offsets.figures or {}
        if figures["offset"] >= TIMES_BAD * figures["offset_best"]:
            severest = replace(severest, level="BAD")
    yield severest


def weighed(findings: Sequence[Finding], *, classifies: bool) -> list[Finding]:
    """The findings, with the levels that two signs together have.

    ================================================================ =================================================
    the answers or offsets speak against a preprocess, and the scale it is ``BAD``
    a usual scale drowns the biases, and the offsets are right       the biases are unusually small: ``OK``
    the scale alone is far out, and there are no class scores        ``CHECK``: networks that never had a
                                                                     BatchNormalization have small biases
    the answers alone ask for inputs of another scale                ``CHECK``: a regression's outputs do so, too
    ================================================================ =================================================

    Args:
        classifies: the model has class scores.
    """
    fit, scale = (next((entry for entry in findings if entry.code == code), None) for code in CODES)
    doubted, far = (entry is not None and entry.level != "OK" for entry in (fit, scale))
    changed = {}
    if fit is not None and doubted and far:
        changed["preprocess-fit"] = replace(fit, level="BAD")
    elif fit is not None and doubted and fit.level == "BAD" and (fit.figures or {}).get(OTHER_SCALE):
        changed["preprocess-fit"] = replace(
            fit, level="CHECK", remedy=f"{fit.remedy}, {NO_CLASSES}", options="--task regress"
        )
    elif scale is not None and far and (scale.figures or {}).get(RESPONSE, 0) > RESPONSE_LARGE[1]:
        usual = PLAIN[0] <= (scale.figures or {}).get("deviation", 0) <= PLAIN[1]
        if usual and fit is not None:
            changed["samples-scale"] = replace(scale, level="OK", remedy="")
        elif not classifies:
            changed["samples-scale"] = replace(scale, level="CHECK")
    return [changed.get(entry.code, entry) for entry in findings]
