"""The report as one HTML file, from the report or from what report.json holds."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dfq_deploy.report import sections, tables
from dfq_deploy.report.charts.bars import bar, meter
from dfq_deploy.report.charts.noise import kind_of
from dfq_deploy.report.charts.tradeoff import tradeoff
from dfq_deploy.report.formats import FORMATS, in_words
from dfq_deploy.report.terms import Glossary

__all__ = ["LARGEST", "page"]

LARGEST = 600_000
"""Bytes of the page. Tables of large models are cut, and say so."""

ROWS = (250, 100, 30, 10)
"""Rows of each table: the first number with which the page is small enough."""

MOST_SENTENCES = 30
"""Warnings and notes."""

LIGHTS = {"OK": "good", "CHECK": "fair", "BAD": "poor"}

MEANINGS = {
    "OK": "Use it.",
    "CHECK": "It may be good: look at what follows, or measure it on real data.",
    "BAD": "Do not use it.",
}

SECTIONS = (
    ("verdict", "Verdict"),
    ("hurts", "What hurts"),
    ("noise", "Noise along the graph"),
    ("histograms", "Histograms"),
    ("weights", "Weights"),
    ("samples", "Samples"),
    ("sanity", "What was looked at"),
    ("size", "Size and speed"),
    ("tables", "All figures"),
    ("compare", "Another run"),
    ("reproduce", "Reproduce"),
    ("glossary", "Glossary"),
)
"""Place and title of each section, in order."""


def page(report: Mapping[str, Any], pictures: Sequence[bytes] = ()) -> str:
    """The page of a report.

    Args:
        report: as report.json holds it; every key may be missing, and its section then says so.
        pictures: of the samples in ``report["answers"]``, in that order, as WebP; none where samples are no images.
    """
    plain = dict(report)
    for rows in ROWS:
        text = _rendered(plain, pictures, rows)
        if len(text.encode()) <= LARGEST:
            break
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dfq_deploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FORMATS)
    environment.globals.update(
        LIGHTS=LIGHTS, MEANINGS=MEANINGS, SECTIONS=SECTIONS, bar=bar, kind_of=kind_of, meter=meter, shown=_shown
    )
    return environment


def _rendered(report: Mapping[str, Any], pictures: Sequence[bytes], rows: int) -> str:
    glossary = Glossary()
    weights = [row for row in report.get("tensors", ()) if row.get("kind") == "weight"]
    activations = [row for row in report.get("tensors", ()) if row.get("kind") != "weight"]
    calibration, noise = report.get("calibration") or {}, report.get("noise") or {}
    points = calibration.get("tradeoff", ())
    return _environment().get_template("page.html").render(
        report=report,
        glossary=glossary,
        term=glossary.term,
        figure=_figures(report),
        widths=in_words(calibration),
        name=(report.get("model") or {}).get("name", "model"),
        verdict=report.get("verdict") or {},
        findings=(report.get("verdict") or {}).get("findings", ()),
        deciding=sections.deciding(report),
        decided_by_noise=sections.decided_by_noise(report),
        hurting=sections.hurting(report),
        noise=sections.noise_chart(report, rows),
        histograms=sections.histograms(report),
        channel_charts=sections.channel_charts(report),
        channel_table=sections.channel_table(report, rows),
        pictures=[Markup("data:image/webp;base64,") + b64encode(picture).decode() for picture in pictures],
        stored=sections.stored(report),
        speed=sections.speed(report),
        tradeoff=tradeoff(points, int(calibration.get("chosen", 0))) if len(points) > 1 else "",
        layers=tables.layer_table(noise.get("layers", ()), rows, sections.float_names(report)),
        activations=tables.activation_table(activations, rows),
        weight_types=tables.weight_table(weights, rows),
        left_float=tables.float_table(report.get("left_float", ()), rows),
        engines=tables.engine_tables(report.get("engine"), rows),
        warnings=report.get("warnings", ())[:MOST_SENTENCES],
        notes=report.get("notes", ())[:MOST_SENTENCES],
    )  # fmt: skip


def _shown(value: Any, form: str) -> Markup:
    return Markup.escape(FORMATS[form](value))


def _figures(report: Mapping[str, Any]) -> Callable[..., Markup]:
    """What writes a figure of the report: with its place in report.json and its exact value, so that both can be
    compared."""

    def figure(path: str, form: str = "number", missing: str = "") -> Markup:
        value: Any = report
        for key in path.split("."):
            try:
                value = value[int(key) if key.isdigit() else key]
            except (KeyError, IndexError, TypeError):
                return Markup.escape(missing)
        exact = "" if value is None else value
        return Markup('<data data-figure="{}" value="{}">{}</data>').format(path, exact, FORMATS[form](value))

    return figure
