"""Describe the figures of a sample set in words."""

from collections.abc import Mapping

__all__ = ["caption", "readable"]


def readable(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return figures as lines (name, description); unknown figures follow under their own names.

    The information of the answers is left out, which only tells something beside that under another preprocess.
    """
    remaining = {name: value for name, value in figures.items() if name != "information"}
    rows = []
    if "statistics_distance" in remaining:
        rows.append(
            ("statistics", f"{remaining.pop('statistics_distance'):.3g} from the training data's (0 is a match)")
        )
    if "class_coverage" in remaining:
        appearing, share = remaining.pop("classes_seen"), remaining.pop("class_coverage")
        low, high = (100 * remaining.pop(f"class_share_{end}") for end in ("smallest", "largest"))
        rows.append(
            ("classes", f"{appearing:.0f} of {appearing / share:.0f} appear, each in {low:.3g} to {high:.3g} %")
        )
    if "confidence" in remaining:
        rows.append(("confidence", f"{remaining.pop('confidence'):.3g}, the mean probability of the class answered"))
    if "diversity" in remaining:
        rows.append(("diversity", f"{remaining.pop('diversity'):.3g}, the mean distance of two in features, in norms"))
    if "label_hit" in remaining:
        rows.append(("labels", f"{100 * remaining.pop('label_hit'):.3g} % get the class of their label"))
    if "verifier_agreement" in remaining:
        hit = (
            f", {100 * remaining.pop('verifier_hit'):.3g} % that of their label" if "verifier_hit" in remaining else ""
        )
        agreement = 100 * remaining.pop("verifier_agreement")
        rows.append(("verifier", f"{agreement:.3g} % get the same class from the second network{hit}"))
    return [*rows, *((name.replace("_", " "), f"{value:.4g}") for name, value in remaining.items())]


def caption(figures: Mapping[str, float]) -> str:
    """Return figures on one line, as the caption of a contact sheet; empty if there are none."""
    parts = []
    if "statistics_distance" in figures:
        parts.append(f"statistics {figures['statistics_distance']:.3g} off")
    if "class_coverage" in figures:
        parts.append(
            f"{figures['classes_seen']:.0f} of {figures['classes_seen'] / figures['class_coverage']:.0f} classes"
        )
    parts += [f"{name} {figures[name]:.3g}" for name in ("confidence", "diversity") if name in figures]
    if "verifier_agreement" in figures:
        parts.append(f"verifier agrees on {100 * figures['verifier_agreement']:.3g} %")
    return ", ".join(parts)
