"""Say where the labels of a sample set are not the model's classes."""

from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding

__all__ = ["label_finding", "shifted_finding"]

CONFIDENT = 0.5
"""A network that is this sure of its answers on the mean recognizes what it sees."""

TIMES_CHANCE = 3
"""It then gives the class of the label more often than this many times chance, where the labels are its own."""

FEWEST = 16
"""Labels that can be judged."""

SHIFTED = 50.0
"""Percent of the labels that name a neighboring class of the answer, from which they are off by one."""

TIMES_OWN = 4
"""So many times more often than the class of the answer itself."""


def label_finding(samples: Samples) -> Finding | None:
    """Whether labels that were given agree with the answers; None where nothing can be said.

    A confident network whose answers have nothing to do with the labels was given those of another order of classes.
    Folders that cannot be the model's classes give no labels to begin with (:mod:`dfq_deploy.samples.labels`).

    Args:
        samples: with the figures of :func:`dfq_deploy.evaluation.sample_quality.quality`.
    """
    figures = samples.figures
    if "label_hit" not in figures or samples.method or len(samples) < FEWEST:
        return None
    classes = figures["classes_seen"] / figures["class_coverage"]
    hit, confidence = figures["label_hit"], figures["confidence"]
    said = f"{100 * hit:.3g} % of the samples get the class of their label"
    kept = {"label_hit": hit, "confidence": confidence}
    if confidence < CONFIDENT or hit > min(TIMES_CHANCE / classes, 0.5):
        return Finding("labels", "OK", said, "", kept)
    message = (
        f"{said}, though the network is sure of its answers: the labels are not in the model's order of classes, or "
        "the preprocess is not that of the training"
    )
    remedy = "name the folders by class index, or give --labels FILE with one class name a line"
    return Finding("labels", "CHECK", message, remedy, kept)


def shifted_finding(scores: Scores, count: int) -> Finding | None:
    """Labels that are off by one, such as those of 1 to 1000 for classes 0 to 999; None where they are not.

    Args:
        scores: with labels.
        count: number of samples.
    """
    own, below, above = scores.float_top1, scores.below_label, scores.above_label
    if own is None or below is None or above is None or count < FEWEST:
        return None
    hit = max(below, above)
    if hit < SHIFTED or hit < TIMES_OWN * own:
        return None
    where, change = ("before", "subtract 1 from") if below >= above else ("behind", "add 1 to")
    message = (
        f"the labels are off by one: float gives the class of the label to {own:.3g} % of the samples, and the class "
        f"{where} it to {hit:.3g} %; {change} each label"
    )
    figures = {"label_hit": own / 100, "shifted_hit": hit / 100}
    return Finding("labels-shifted", "CHECK", message, f"{change} each label", figures)
