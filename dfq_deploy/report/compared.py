"""Compare the report of a run with that of another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["compared"]

MOST_TENSORS = 10
"""Tensors that are listed: those whose signal to noise changed most."""

Report = Mapping[str, Any]


@dataclass(frozen=True)
class _Figure:
    """One figure of both reports.

    Args:
        name, unit: for people.
        path: of its keys.
        better: 1 where more is better, -1 where less is, 0 where neither is.
    """

    name: str
    unit: str
    path: tuple[str | int, ...]
    better: int = 1


FIGURES = (
    _Figure("same class as float, predicted for real data", "%", ("agreement", "predicted", "value")),
    _Figure("same class as float, held-out samples", "%", ("comparison", "agreement")),
    _Figure("divergence of the class probabilities", "nats", ("comparison", "kl_nats"), -1),
    _Figure("signal to noise of the first output", "dB", ("comparison", "outputs", 0, "snr_db")),
    _Figure("signal to noise of the boxes", "dB", ("comparison", "detector", "boxes_snr_db")),
    _Figure("signal to noise of the scores", "dB", ("comparison", "detector", "scores_snr_db")),
    _Figure("signal to noise, all layers quantized", "dB", ("noise", "total_snr_db")),
    _Figure("layers in integers", "", ("kernels", "integer")),
    _Figure("size of the quantized file", "bytes", ("quantized", "file_bytes"), -1),
    _Figure("samples", "", ("samples", "count"), 0),
)

SETTINGS = (
    ("model", ("model", "name")),
    ("target", ("target", "name")),
    ("samples", ("samples", "method")),
    ("calibrator", ("calibration", "method")),
    ("bits", ("calibration", "bits")),
    ("refinement", ("calibration", "refine")),
    ("seed", ("samples", "seed")),
    ("dfq-deploy", ("version",)),
)


def compared(report: Report, other: Report, name: str) -> dict[str, Any]:
    """Both runs side by side, as report.json holds it.

    Args:
        report: of this run.
        other: of the other one, as its report.json holds it.
        name: where the other one lies.

    Returns:
        ``name``; ``verdict`` with ``this`` and ``other``; ``figures`` (``name``, ``unit``, ``this``, ``other``,
        ``difference``, ``better``: whether this run is, null where neither is); ``settings`` that differ; ``tensors``
        whose signal to noise changed most.
    """
    return {
        "name": name,
        "verdict": {"this": _at(report, ("verdict", "status")), "other": _at(other, ("verdict", "status"))},
        "figures": [row for figure in FIGURES if (row := _row(figure, report, other)) is not None],
        "settings": [
            {"name": label, "this": this, "other": that}
            for label, path in SETTINGS
            if (this := _text(_at(report, path))) != (that := _text(_at(other, path)))
        ],
        "tensors": _tensors(report, other),
    }


def _row(figure: _Figure, report: Report, other: Report) -> dict[str, Any] | None:
    """None where a report lacks the figure; an infinite signal to noise is null in both."""
    this, that = _at(report, figure.path), _at(other, figure.path)
    if this is None or that is None:
        return None
    difference = this - that
    better = None if not figure.better or difference == 0 else difference * figure.better > 0
    return {
        "name": figure.name, "unit": figure.unit, "this": this, "other": that, "difference": difference,
        "better": better,
    }  # fmt: skip


def _at(report: Any, path: Iterable[str | int]) -> Any:
    """What ``path`` leads to; None where a key is missing."""
    for key in path:
        try:
            report = report[key]
        except (KeyError, IndexError, TypeError):
            return None
    return report


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _tensors(report: Report, other: Report) -> list[dict[str, Any]]:
    known = {row["name"]: row["snr_db"] for row in other.get("tensors", ()) if row.get("snr_db") is not None}
    rows = [
        {"name": row["name"], "this": row["snr_db"], "other": known[row["name"]],
         "difference": row["snr_db"] - known[row["name"]]}
        for row in report.get("tensors", ())
        if row.get("snr_db") is not None and row["name"] in known
    ]  # fmt: skip
    changed = [row for row in rows if row["difference"]]
    return sorted(changed, key=lambda row: -abs(row["difference"]))[:MOST_TENSORS]
