"""Say where the labels of a sample set are not the model's classes."""

from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding

__all__ = ["label_finding"]

CONFIDENT = 0.5
"""A network that is this sure of its answers on the mean recognizes what it sees."""

TIMES_CHANCE = 3
"""It then gives the class of the label more often than this many times chance, where the labels are its own."""

FEWEST = 16
"""Labels that can be judged."""


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
