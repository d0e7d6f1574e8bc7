"""Judge the quality figures of a sample set: classes, diversity, confidence, statistics."""

from collections.abc import Mapping

from dfq_deploy.verdict.finding import Finding, Level

__all__ = ["figure_findings"]

DIVERSITY_BAD, DIVERSITY_CHECK = 0.1, 0.25
"""Mean distance of two samples in features, in norms."""

WITHOUT_CLASSES = 0.5
"""Part of these bounds for models without class scores: what regressions and image-to-image networks compute of good
samples differs less (0.2 norms in two of them)."""

ONE_CLASS = 0.9
"""The largest share of the samples that one class of three or more should get."""

SURE = 0.05
"""A mean confidence below this is that of a network that recognizes nothing; of few classes, 1.5 times chance."""

TARGETS_CHECK = 0.5
"""Share of the samples that get the class that they were made for."""

STATISTICS_BAD, STATISTICS_CHECK = 4.0, 0.85
"""Distance from the training data's statistics (:func:`dfq_deploy.evaluation.sample_quality.quality`)."""

ALIKE = 0.6
"""A smaller diversity lets one class for all samples, or none that is sure, be doubted: outputs that are no class
scores, as coordinates, also look like that."""

FEWEST = 8
"""Shares of fewer samples say nothing."""

REMEDY = "look at samples.png; give real images with --data, or check --preprocess"


def figure_findings(figures: Mapping[str, float], count: int) -> tuple[Finding, ...]:
    """What the figures of :func:`dfq_deploy.evaluation.sample_quality.quality` say of a set; no figure, no finding.

    Args:
        count: number of samples.
    """
    part = 1.0 if "class_coverage" in figures else WITHOUT_CLASSES
    found = [_diversity(figures["diversity"], part)] if "diversity" in figures and count > 1 else []
    if "class_coverage" in figures:
        found += [_classes(figures, count), _confidence(figures)]
    if "statistics_distance" in figures:
        found.append(_statistics(figures["statistics_distance"]))
    if "target_hit" in figures and count >= FEWEST:
        found.append(_targets(figures["target_hit"]))
    return tuple(found)


def _diversity(value: float, part: float) -> Finding:
    bad, check = part * DIVERSITY_BAD, part * DIVERSITY_CHECK
    level: Level = "BAD" if value < bad else "CHECK" if value < check else "OK"
    end = "" if level == "OK" else "; to the network they look alike"
    message = f"two samples differ by {value:.3g} norms in features ({check:g} or more is OK){end}"
    return Finding("samples-diversity", level, message, "" if level == "OK" else REMEDY, {"diversity": value})


def _classes(figures: Mapping[str, float], count: int) -> Finding:
    seen, largest = figures["classes_seen"], figures["class_share_largest"]
    classes = round(seen / figures["class_coverage"])
    one = count >= FEWEST and classes > 2 and largest > ONE_CLASS
    level: Level = "CHECK" if one and figures.get("diversity", 0) < ALIKE else "OK"
    message = (
        f"{seen:.0f} of {classes} classes appear, and one of them is the answer for {100 * largest:.3g} % "
        f"({100 * ONE_CLASS:.0f} % or less is OK)"
    )
    kept = {key: figures[key] for key in ("classes_seen", "class_coverage", "class_share_largest")}
    return Finding("samples-classes", level, message, "" if level == "OK" else REMEDY, kept)


def _confidence(figures: Mapping[str, float]) -> Finding:
    value, classes = figures["confidence"], figures["classes_seen"] / figures["class_coverage"]
    unsure = classes > 2 and value < max(SURE, 1.5 / classes)
    level: Level = "CHECK" if unsure and figures.get("diversity", 0) < ALIKE else "OK"
    end = "" if level == "OK" else ": the network recognizes nothing in them"
    bound = f" ({max(SURE, 1.5 / classes):.2g} or more is OK)" if classes > 2 else ""
    message = f"the mean probability of the class answered is {value:.3g}{bound}{end}"
    remedy = "" if level == "OK" else f"{REMEDY}; if the output is no row of class scores, give --task regress"
    return Finding("samples-confidence", level, message, remedy, {"confidence": value})


def _targets(value: float) -> Finding:
    level: Level = "CHECK" if value < TARGETS_CHECK else "OK"
    bound = f"{100 * TARGETS_CHECK:.0f} % or more is OK"
    message = f"{100 * value:.3g} % of the samples get the class that they were made for ({bound})"
    remedy = "" if level == "OK" else REMEDY
    return Finding("samples-targets", level, message, remedy, {"target_hit": value})


def _statistics(value: float) -> Finding:
    level: Level = "BAD" if value > STATISTICS_BAD else "CHECK" if value > STATISTICS_CHECK else "OK"
    message = f"the statistics are {value:.3g} from the training data's, where 0 is a match and {STATISTICS_CHECK:g} OK"
    remedy = "" if level == "OK" else REMEDY
    return Finding("samples-statistics", level, message, remedy, {"statistics_distance": value})
