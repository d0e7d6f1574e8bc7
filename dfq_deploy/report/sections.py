"""What the sections of the page show, from the report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dfq_deploy.report.charts.bars import box, parts
from dfq_deploy.report.charts.channels import channel_ranges
from dfq_deploy.report.charts.histogram import histogram, integers_per_tick
from dfq_deploy.report.charts.noise import NoisePoint, noise_lines
from dfq_deploy.report.formats import decibel, share, shortened
from dfq_deploy.report.tables import Cell, Table, name_cell, number_cell

__all__ = [
    "HURTING",
    "channel_charts",
    "channel_table",
    "decided_by_noise",
    "deciding",
    "float_names",
    "histograms",
    "hurting",
    "noise_chart",
    "speed",
    "stored",
]

HURTING = 5
"""Layers that are explained."""

DETAILED = 5
"""Weights of which each channel is drawn."""

MOST_POINTS = 300
"""Layers on the chart of noise: of more than that, the noisiest of each group of neighbors."""

TYPES = {"int8": "eight", "uint8": "eight", "int4": "few", "uint4": "few", "int32": "bias", "float32": "float",
         "float16": "half"}  # fmt: skip
"""Class of the bar of each stored type."""

PREFERRED = {"data": 0, "written": 1, "photographs": 2, "procedural": 3}
"""Kinds of held-out inputs, the most trustworthy first; text is written where plain photographs say little."""

Row = Mapping[str, Any]
Report = Mapping[str, Any]


def deciding(report: Report) -> tuple[int, Row] | None:
    """The kind of held-out inputs that judges, and its place in ``report["agreement"]["kinds"]``."""
    agreement = report.get("agreement") or {}
    kinds = [*enumerate(agreement.get("kinds", ()))]
    measured = (agreement.get("predicted") or {}).get("kind") == "data"
    own = [entry for entry in kinds if measured and entry[1]["kind"] == "data"]
    judging = own or [entry for entry in kinds if not entry[1]["calibrated"]] or kinds
    ordered = sorted(judging, key=lambda entry: PREFERRED.get(entry[1]["kind"], len(PREFERRED)))
    return ordered[0] if ordered else None


def decided_by_noise(report: Report) -> bool:
    """Whether the verdict rests on how close the outputs are to float's."""
    findings = (report.get("verdict") or {}).get("findings", ())
    return not findings or findings[0]["code"] in ("agreement", "output-noise", "detector")


def float_names(report: Report) -> frozenset[str]:
    """The nodes that compute in float."""
    return frozenset(row["name"] for row in report.get("left_float", ()))


def hurting(report: Report) -> list[tuple[int, Row]]:
    """The noisiest layers with their causes, and their places in ``report["noise"]["layers"]``."""
    layers = (report.get("noise") or {}).get("layers", ())
    return [(index, layer) for index, layer in enumerate(layers) if layer.get("causes")][:HURTING]


def noise_chart(report: Report, linked: int) -> Mapping[str, Any] | None:
    """The chart of signal to noise along the graph; None where nothing was measured.

    Args:
        linked: layers whose row is on the page.
    """
    noise = report.get("noise") or {}
    ranked = noise.get("layers", ())
    if not ranked:
        return None
    there = {layer.get("position", index) for index, layer in enumerate(ranked[:linked])}
    layers = sorted(ranked, key=lambda layer: layer.get("position", 0))
    shown = list(_noisiest_of_groups(layers))
    points = [_point(layer, "position" in layer and layer["position"] in there) for layer in shown]
    grouped = sum(not layer.get("measured", True) for layer in layers)
    return {"svg": noise_lines(points), "shown": len(shown), "total": len(layers), "grouped": grouped}


def _noisiest_of_groups(layers: Sequence[Row]) -> Iterator[Row]:
    count = min(MOST_POINTS, len(layers))
    for index in range(count):
        group = layers[len(layers) * index // count : len(layers) * (index + 1) // count]
        yield min(group, key=lambda layer: math.inf if layer["own_snr_db"] is None else layer["own_snr_db"])


def _point(layer: Row, linked: bool) -> NoisePoint:
    own, behind = layer["own_snr_db"], layer["accumulated_snr_db"]
    known = "" if behind is None else f"{decibel(behind)} accumulated, "
    text = f"{known}{decibel(own)} own, {share(layer['share'])} of all noise"
    name = f"{shortened(layer['node'], 60)} ({layer['operator']})"
    link = f"#layer-{layer['position']}" if linked else "#layers"
    return NoisePoint(name, behind, math.inf if own is None else own, text, link)


def histograms(report: Report) -> list[dict[str, Any]]:
    """A histogram for each of the noisiest layers."""
    return [
        {
            "layer": layer["node"], "tensor": drawn["tensor"], "type": drawn["type"], "unit": drawn["unit"],
            "step": drawn["step"], "outside": drawn["outside"], "per_tick": integers_per_tick(drawn),
            "svg": histogram({**drawn, "tensor": shortened(drawn["tensor"])}),
        }
        for _, layer in hurting(report)
        if (drawn := layer.get("histogram"))
    ]  # fmt: skip


def channel_charts(report: Report) -> list[dict[str, Any]]:
    """The weights whose channels differ most, with the range of each channel."""
    detailed = [row for row in report.get("weights") or () if row.get("low")]
    ordered = sorted(detailed, key=lambda row: -row["spread"])[:DETAILED]
    return [{**row, "svg": channel_ranges(shortened(row["name"]), row["low"], row["high"])} for row in ordered]


def channel_table(report: Report, most: int) -> Table:
    """Every quantized weight with its spread and its channels of zeros; of many those that differ most."""
    rows: Sequence[Row] = report.get("weights") or ()
    order = "in the graph's order"
    if len(rows) > most:
        rows = sorted(rows, key=lambda row: (-row["dead"] - row["vanished"], -row["spread"]))
        order = "those with dead channels and the widest spread"
    alive = [row["magnitudes"] for row in rows if row["magnitudes"][4] > 0]
    low = min((quartiles[0] for quartiles in alive), default=1.0)
    high = max((quartiles[4] for quartiles in alive), default=1.0)

    def cells(row: Row) -> tuple[Cell, ...]:
        return (
            number_cell(row["spread"], f"{row['spread']:.1f}\N{MULTIPLICATION SIGN}"),
            name_cell(row["name"]),
            Cell(row["operator"]),
            number_cell(row["channels"]),
            Cell(box(row["magnitudes"], low, high), row["magnitudes"][2]),
            number_cell(row["dead"]),
            number_cell(row["vanished"]),
            Cell("per channel" if row["scales"] > 1 else "per tensor"),
        )

    heads = (
        ("spread", "spread"), ("weight", ""), ("operator", ""), ("channels", ""), ("largest value of a channel", ""),
        ("dead", "dead channel"), ("zero by rounding", ""), ("scale", "per-channel, per-tensor"),
    )  # fmt: skip
    shown = tuple(cells(row) for row in rows[:most])
    return Table("weight-channels", "Channels of the weights", heads, shown, len(rows), order)


def stored(report: Report) -> list[dict[str, Any]]:
    """Both files with their constants by type; the rest of a file is its graph."""
    files = [(label, report.get(key) or {}) for label, key in (("float", "model"), ("quantized", "quantized"))]
    whole = max((entry.get("file_bytes") or 0 for _, entry in files), default=0)
    return [_stored(label, entry, whole) for label, entry in files if entry.get("file_bytes")]


def _stored(label: str, entry: Row, whole: float) -> dict[str, Any]:
    sizes = dict(entry.get("bytes_by_type") or {})
    rest = entry["file_bytes"] - sum(sizes.values())
    if rest > 0:
        sizes["graph and the rest"] = rest
    kinds = {name: TYPES.get(name, "other") for name in sizes}
    drawn = parts(sizes, max(whole, sum(sizes.values())), kinds, f"Size of the {label} file by stored type")
    return {"label": label, "bytes": entry["file_bytes"], "sizes": sizes, "kinds": kinds, "svg": drawn}


def speed(report: Report) -> tuple[int, Row] | None:
    """The finding on speed, and its place among the findings; None where there is none."""
    findings = (report.get("verdict") or {}).get("findings", ())
    found = ((index, finding) for index, finding in enumerate(findings) if "float" in finding["code"].split("-"))
    return next(((index, finding) for index, finding in found if "quantized_ms" in finding["figures"]), None)
