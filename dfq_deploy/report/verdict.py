"""The verdict, what hurts and the sanity figures as HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["noise_section", "verdict_box", "verdict_section"]

LIGHTS = {"OK": "good", "CHECK": "fair", "BAD": "poor"}

SHOWN_LAYERS = 5


def verdict_box(report: Mapping[str, Any]) -> str:
    """The last word, its reason, and the command to paste; empty where nothing was judged."""
    verdict = report.get("verdict")
    if not verdict:
        return ""
    command = f"<p>Next: <code>{escape(str(verdict['command']))}</code></p>" if verdict["command"] else ""
    return (
        f'<div class="verdict {LIGHTS[verdict["status"]]}-edge"><b>{escape(str(verdict["status"]))}</b>'
        f"<p>{escape(str(verdict['reason']))}.</p>{command}</div>"
    )


def noise_section(report: Mapping[str, Any]) -> str:
    """The layers with the most noise of their own, with cause and remedy."""
    layers = [layer for layer in (report.get("noise") or {}).get("layers", ()) if layer.get("causes")][:SHOWN_LAYERS]
    rows = "".join(_layer_row(layer) for layer in layers)
    if not rows:
        return ""
    heads = (
        '<tr><th scope="col">layer</th><th scope="col" class="n">own noise</th><th scope="col" class="n">of all</th>'
        '<th scope="col">cause</th><th scope="col">remedy</th></tr>'
    )
    return (
        '<h2>What hurts</h2>\n<p class="soft">Signal to noise at the outputs with that layer alone quantized, against '
        "the float file as it was given; the first five.</p>\n"
        f'<div class="wide"><table class="hurts">{heads}{rows}</table></div>'
    )


def _layer_row(layer: Mapping[str, Any]) -> str:
    cause = layer["causes"][0]
    return (
        f'<tr><td class="name"><code>{escape(str(layer["node"]))}</code><br>'
        f'<span class="soft">{escape(layer["operator"])}</span></td>'
        f'<td class="n">{_decibel(layer["own_snr_db"])}</td><td class="n">{100 * layer["share"]:.0f} %</td>'
        f"<td>{escape(cause['sentence'])}</td><td>{escape(cause['remedy'])}</td></tr>"
    )


def verdict_section(report: Mapping[str, Any]) -> str:
    """Agreement on each kind of held-out input, and every finding with its light."""
    findings = (report.get("verdict") or {}).get("findings", ())
    if not findings:
        return ""
    lights = "".join(
        f'<tr><td><svg width="12" height="12" role="img" aria-label="{finding["level"]}"><circle cx="6" cy="6" r="5" '
        f'class="{LIGHTS[finding["level"]]}"/></svg> {finding["level"]}</td><td>{escape(str(finding["message"]))}</td>'
        f"<td>{escape(str(finding['remedy']))}</td></tr>"
        for finding in findings
    )
    heads = '<tr><th scope="col">level</th><th scope="col">finding</th><th scope="col">way out</th></tr>'
    return (
        f"{_agreement(report)}<h2>What was looked at</h2>\n"
        f'<div class="wide"><table class="findings">{heads}{lights}</table></div>'
    )


def _agreement(report: Mapping[str, Any]) -> str:
    kinds = (report.get("agreement") or {}).get("kinds", ())
    rows = "".join(
        f"<tr><td>{escape(kind['kind'])}{' (this kind calibrated)' if kind['calibrated'] else ''}</td>"
        f'<td class="n">{kind["samples"]}</td><td class="n">{_interval(kind["agreement"])}</td>'
        f'<td class="n">{_decibel(kind["worst_output"]["snr_db"])}</td></tr>'
        for kind in kinds
    )
    if not rows:
        return ""
    heads = (
        '<tr><th scope="col">inputs</th><th scope="col" class="n">number</th>'
        '<th scope="col" class="n">same class as float (95 %)</th>'
        '<th scope="col" class="n">signal to noise</th></tr>'
    )
    return (
        '<h2>Held-out inputs</h2>\n<p class="soft">Inputs that nothing was calibrated with. A set judges itself too '
        f'kindly, so other kinds decide.</p>\n<div class="wide"><table>{heads}{rows}</table></div>'
    )


def _interval(agreement: Mapping[str, Any] | None) -> str:
    if agreement is None:
        return "no classes"
    return f"{agreement['value']:.1f} % ({agreement['low']:.1f} to {agreement['high']:.1f})"


def _decibel(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"
