"""The HTML report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from dfq_deploy.report.engine import engine_section
from dfq_deploy.report.plots import in_words, tradeoff_curve
from dfq_deploy.report.remedies import remedies_section
from dfq_deploy.report.verdict import noise_section, verdict_box, verdict_section
from dfq_deploy.samples.contact_sheet import MAXIMUM

__all__ = ["page"]

STYLE = """
:root { --ink: #1c2430; --soft: #5d6876; --line: #dfe4ea; --card: #f5f7f9; --back: #ffffff;
  --good: #2f7fb8; --fair: #c98a1b; --poor: #c2453d; --track: #e4e9ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #98a4b1; --line: #2d3642; --card: #1b222b;
  --back: #12171d; --good: #58a6dc; --fair: #dba43c; --poor: #e5736b; --track: #2a333e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem 1.5rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .75rem; }
p { margin: .25rem 0 .75rem; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem .9rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
.verdict { border: 1px solid var(--line); border-left: .5rem solid; border-radius: .5rem; background: var(--card);
  padding: .75rem 1rem; margin: 1.25rem 0; } .verdict b { font-size: 1.5rem; } .verdict p { margin: .25rem 0 0; }
.good-edge { border-left-color: var(--good); } .fair-edge { border-left-color: var(--fair); }
.poor-edge { border-left-color: var(--poor); } .findings td:first-child { white-space: nowrap; }
.warning { border-left: 3px solid var(--fair); background: var(--card); padding: .6rem .9rem; margin: .5rem 0; }
img { display: block; max-width: 100%; border-radius: .35rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 16rem; } .hurts td { overflow-wrap: anywhere; min-width: 6rem; }
code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .92em; }
.facts td:first-child { color: var(--soft); width: 11rem; }
svg { vertical-align: middle; } .track { fill: var(--track); }
.curve { max-width: 42rem; width: 100%; font-size: 12px; } .curve text { fill: var(--soft); }
.curve polyline { fill: none; stroke: var(--good); stroke-width: 2; } .curve .axis { stroke: var(--line); }
.curve circle { fill: var(--fair); }
.good { fill: var(--good); } .fair { fill: var(--fair); } .poor { fill: var(--poor); }
"""

SNR_FULL = 50.0
"""A bar of this many dB is full: the rounding of 8 bits alone leaves about that much."""

SNR_FAIR, SNR_GOOD = 10.0, 20.0
"""Below 10 dB a tensor has lost a tenth of its energy to noise; above 20 dB less than a hundredth."""


def page(report: Mapping[str, Any], picture: str = "") -> str:
    """The page for a report, or for what report.json holds; ``picture`` is a PNG in base64."""
    name = report.get("model", {}).get("name", "model")
    parts = [
        _header(report, name),
        verdict_box(report),
        noise_section(report),
        remedies_section(report),
        _tiles(report),
        "".join(f'<div class="warning">{escape(str(warning))}</div>' for warning in report.get("warnings", ())),
        "".join(f'<p class="soft">Note: {escape(str(note))}.</p>' for note in report.get("notes", ())),
        _samples(report, picture),
        verdict_section(report),
        _settings(report),
        _section(
            "Size against error",
            "each step to the left takes bits from the layer whose bytes are cheapest; the error is the predicted one",
            tradeoff_curve(report.get("calibration", {})),
        ),
        _tensors(
            report, "activation", "Activations", "in the graph's order, float against quantized; errors add up along it"
        ),
        _left_float(report),
        engine_section(report),
        _tensors(report, "weight", "Weights", "one scale for each output channel where smallest and largest differ"),
        _files(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(str(name))} in {in_words(report.get('calibration', {}))}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body>\n</html>\n"
    )


def _header(report: Mapping[str, Any], name: str) -> str:
    target, samples = report.get("target", {}), report.get("samples", {})
    for_target = f" for {escape(str(target['runtime']))}" if "runtime" in target else ""
    made = f"{escape(str(samples['method']))} samples" if "method" in samples else "samples"
    version = f" by dfq-deploy {escape(str(report['version']))}" if "version" in report else ""
    widths = in_words(report.get("calibration", {}))
    return f'<h1>{escape(str(name))} in {widths}</h1>\n<p class="soft">Quantized{for_target}, with {made}{version}.</p>'


def _tiles(report: Mapping[str, Any]) -> str:
    comparison, model, quantized = (report.get(key, {}) for key in ("comparison", "model", "quantized"))
    held = comparison.get("samples")
    tiles = []
    if comparison.get("agreement") is not None:
        tiles.append((f"{comparison['agreement']:.1f} %", f"same class as float, on {held} held-out samples"))
    for output in comparison.get("outputs", ())[:1]:
        tiles.append((_decibel(output.get("snr_db")), f"signal to noise of '{output.get('name', '')}'"))
    if comparison.get("detector"):
        tiles += _detector_tiles(comparison["detector"])
    if comparison.get("kl_nats") is not None:
        tiles.append((f"{comparison['kl_nats']:.2g} nats", "divergence of the class probabilities"))
    if model.get("file_bytes") and quantized.get("file_bytes"):
        sizes = f"{_bytes(model['file_bytes'])} to {_bytes(quantized['file_bytes'])}"
        ratio = model["file_bytes"] / quantized["file_bytes"]
        tiles.append((f"{ratio:.1f}\N{MULTIPLICATION SIGN}", f"smaller: {sizes}"))
    if report.get("seconds"):
        tiles.append((_duration(sum(report["seconds"].values())), "from model to result"))
    cells = "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{cells}</div>' if tiles else ""


def _samples(report: Mapping[str, Any], picture: str) -> str:
    samples = report.get("samples", {})
    if not picture:
        return ""
    count = int(samples.get("count", 0))
    shown = f"{count or 'The'} samples{f', of which the first {MAXIMUM} are shown' if count > MAXIMUM else ''}"
    return (
        f'<h2>Samples</h2>\n<p class="soft">{shown}. The ranges below were measured on them.</p>\n'
        f'<img alt="samples" src="data:image/png;base64,{picture}">'
    )


def _detector_tiles(head: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Boxes and scores of a detector, apart."""
    overlap, shift = head.get("box_overlap"), head.get("score_shift")
    tiles = [(_decibel(head[f"{part}_snr_db"]), f"signal to noise of the {part}") for part in ("boxes", "scores")]
    if overlap is not None:
        tiles.append((f"{100 * overlap:.1f} %", "overlap of boxes with float's"))
        best = f"{head['best_score_float']:.2f} to {head['best_score_quantized']:.2f}"
        tiles.append((best, "highest score of a sample, float to quantized"))
    if shift is not None:
        tiles.append((f"{shift:.3f}", "how far a score of 0.5 moves"))
    return tiles


def _settings(report: Mapping[str, Any]) -> str:
    samples, calibration = report.get("samples", {}), report.get("calibration", {})
    rows = [
        ("target", report.get("target", {}).get("name")),
        ("samples", samples.get("method")),
        ("samples chosen because", calibration.get("synth_reason")),
        ("preprocess", _preprocess(samples.get("preprocess"))),
        ("seed", samples.get("seed")),
        ("calibrator", calibration.get("method")),
        ("bits", calibration.get("bits")),
        ("refinement", ", ".join(calibration.get("refine", ())) or None),
        *((name.replace("_", " "), f"{value:.4g}") for name, value in samples.get("figures", {}).items()),
        *((f"time: {step}", _duration(value)) for step, value in report.get("seconds", {}).items()),
    ]
    cells = [(escape(key), escape(str(value))) for key, value in rows if value is not None]
    return _section("How it was made", "", _table((), cells, css="facts"))


def _preprocess(given: Mapping[str, Sequence[float]] | str | None) -> str | None:
    if not isinstance(given, Mapping):
        return given
    return "; ".join(f"{name} {', '.join(f'{value:.4g}' for value in values)}" for name, values in given.items())


def _tensors(report: Mapping[str, Any], kind: str, title: str, note: str) -> str:
    rows = [row for row in report.get("tensors", ()) if row.get("kind", "activation") == kind]
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str], str]] = [
        ("tensor", lambda row: f"<code>{escape(str(row.get('name', '')))}</code>", "name"),
        ("type", lambda row: escape(str(row.get("type", ""))), ""),
        ("lowest", lambda row: _number(row.get("low")), "n"),
        ("highest", lambda row: _number(row.get("high")), "n"),
        ("scale", lambda row: _scale(row.get("scale")), "n"),
        ("clipped", lambda row: _share(row.get("clipped")), "n"),
        ("signal to noise", _bar, "bar"),
    ]
    keys = {"clipped": "clipped", "signal to noise": "snr_db"}
    kept = [entry for entry in columns if entry[0] not in keys or any(keys[entry[0]] in row for row in rows)]
    cells = [[render(row) for _, render, _ in kept] for row in rows]
    return _section(title, note, _table([(head, css) for head, _, css in kept], cells))


def _left_float(report: Mapping[str, Any]) -> str:
    rows = [
        [escape(str(row.get(key, ""))) for key in ("name", "operator", "reason")]
        for row in report.get("left_float", ())
    ]
    return _section("Left in float", "", _table([("node", "name"), ("operator", ""), ("reason", "")], rows))


def _files(report: Mapping[str, Any]) -> str:
    rows = [(f"<code>{escape(name)}</code>", escape(str(what))) for name, what in report.get("files", {}).items()]
    return _section("Files", "", _table((), rows, css="facts"))


def _section(title: str, note: str, body: str) -> str:
    lead = f'<p class="soft">{escape(note[:1].upper() + note[1:])}.</p>\n' if note else ""
    return f"<h2>{escape(title)}</h2>\n{lead}{body}" if body else ""


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """A table of cells that are HTML already; empty without rows."""
    classes = [kind for _, kind in heads]
    lines = []
    for row in rows:
        kinds = classes or [""] * len(row)
        lines.append(
            "<tr>" + "".join(f"<td{_class(k)}>{cell}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>"
        )
    head = "<tr>" + "".join(f"<th{_class(kind)}>{escape(text)}</th>" for text, kind in heads) + "</tr>" if heads else ""
    return f'<div class="wide"><table{_class(css)}>{head}{"".join(lines)}</table></div>' if lines else ""


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _bar(row: Mapping[str, Any]) -> str:
    """Signal to noise as a bar with its figure; an empty cell where it was not measured."""
    if "snr_db" not in row:
        return ""
    value = SNR_FULL if row["snr_db"] is None else float(row["snr_db"])
    kind = "good" if value >= SNR_GOOD else "fair" if value >= SNR_FAIR else "poor"
    width = max(1.0, min(1.0, max(0.0, value / SNR_FULL)) * 120)
    return (
        '<svg width="120" height="10" aria-hidden="true"><rect class="track" width="120" height="10" rx="2"/>'
        f'<rect class="{kind}" width="{width:.0f}" height="10" rx="2"/></svg> {_decibel(row["snr_db"])}'
    )


def _decibel(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else "< 0.01 %" if value < 1e-4 else f"{100 * value:.2f} %"


def _scale(value: float | Sequence[float] | None) -> str:
    return f"{min(value):.3g} to {max(value):.3g}" if isinstance(value, Sequence) else _number(value)


def _bytes(size: float) -> str:
    if size >= 1e6:
        return f"{size / 1e6:.2f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
