"""Print the verdict of evaluate: the user's own metric, the gates, and the last line."""

from typing import TYPE_CHECKING

from rich.console import Group

from dfq_deploy.cli.views.results import show_evaluation
from dfq_deploy.cli.views.tables import facts, page, title
from dfq_deploy.cli.views.verdict import verdict_line

if TYPE_CHECKING:
    from dfq_deploy.evaluation.detection.map_metric import DetectionFigures
    from dfq_deploy.evaluation.own_metric import MetricFigures
    from dfq_deploy.pipeline.evaluate import JudgedEvaluation
    from dfq_deploy.verdict.finding import Finding

__all__ = ["show_judged"]


def show_judged(found: "JudgedEvaluation") -> None:
    """What ``evaluate`` prints: the figures, then the verdict as the last line, however long it is."""
    earlier, scores = found.earlier, found.comparison.scores
    show_evaluation(found, "" if earlier is None or scores is None else earlier.against(scores.agreement))
    gates = [finding for finding in found.verdict.findings if finding.code.startswith("gate-")]
    parts = [*_metric(found.metric), *_gates(gates)]
    if parts:
        page(*parts)
    verdict_line(found.verdict.to_json())


def _metric(figures: "MetricFigures | None") -> list[Group]:
    from dfq_deploy.evaluation.detection.map_metric import DetectionFigures

    if figures is None:
        return []
    if isinstance(figures, DetectionFigures):
        return [_precision(figures)]
    row = f"{figures.of_float:.6g} in float, {figures.of_quantized:.6g} quantized: a drop of {figures.drop:.6g}"
    return [Group("", title("own metric"), facts([(figures.name, row)]))]


def _precision(figures: "DetectionFigures") -> Group:
    truth = "the annotations" if figures.against == "annotations" else "what the float model detects"
    pairs = {"0.5:0.95": (figures.of_float, figures.of_quantized), "0.5": (figures.float_50, figures.quantized_50)}
    rows = [
        (f"mAP@{overlap}", f"{first:.3f} in float, {second:.3f} quantized: a drop of {first - second:.3f}")
        for overlap, (first, second) in pairs.items()
    ]
    return Group("", title("mean average precision", f"against {truth}, {figures.objects} objects"), facts(rows))


def _gates(gates: "list[Finding]") -> list[Group]:
    if not gates:
        return []
    parts = (gate.message.partition(": ") for gate in gates)
    rows = [(name, figure) for name, _, figure in parts]
    met = sum(gate.level == "OK" for gate in gates)
    return [Group("", title("gates", f"{met} of {len(gates)} met"), facts(rows))]
