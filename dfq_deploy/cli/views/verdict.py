"""Print a verdict, and the layers that hurt."""

from collections.abc import Mapping
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dfq_deploy.cli.views.tables import facts, title
from dfq_deploy.errors import printable

__all__ = ["BAD_STATUS", "STYLES", "exit_status", "show_agreement", "show_findings", "show_noise", "verdict_line"]

BAD_STATUS = 3
"""Exit status of a command that is done, and whose result is BAD."""

STYLES = {"OK": "bold green", "CHECK": "bold yellow", "BAD": "bold red"}

SHOWN_LAYERS = 5

QUIET = 30.0
"""dB of a layer's own noise from which on it is not worth a line."""

SHOWN_WHERE_OK = (
    "agreement",
    "output-noise",
    "detector",
    "task",
    "layers-in-int8",
    "layers-in-float",
    "faster-than-float",
    "as-fast-as-float",
    "preprocess-missing",
)


def exit_status(verdict: Mapping[str, Any] | None) -> int:
    """0, or 3 where the verdict is BAD."""
    return BAD_STATUS if verdict is not None and verdict["status"] == "BAD" else 0


def show_findings(verdict: Mapping[str, Any] | None) -> Group | None:
    """What was looked at: the findings that are not OK, each with its remedy, and a line on the others."""
    findings = [] if verdict is None else verdict["findings"]
    doubtful = [finding for finding in findings if finding["level"] != "OK"]
    grid = Table.grid(padding=(0, 1))
    for finding in doubtful:
        remedy = f". {finding['remedy'][:1].upper()}{finding['remedy'][1:]}" if finding["remedy"] else ""
        grid.add_row(Text(f"  {finding['level']}", STYLES[finding["level"]]), Text(finding["message"] + remedy))
    for finding in findings:
        if finding["level"] == "OK" and finding["code"] in SHOWN_WHERE_OK:
            grid.add_row(Text("  OK", STYLES["OK"]), Text(finding["message"]))
    return Group("", title("looked at"), grid) if grid.row_count else None


def show_agreement(agreement: Mapping[str, Any] | None) -> Group | None:
    """Agreement with float on the held-out inputs of each kind."""
    rows = []
    kinds = [] if agreement is None else agreement["kinds"]
    for kind in kinds:
        twice = kind is kinds[0] and kind["kind"] in [other["kind"] for other in kinds[1:]]
        own = " held out of the samples" if twice else ", of the kind that calibrated" if kind["calibrated"] else ""
        interval, output = kind["agreement"], kind["worst_output"]
        snr = "equal" if output["snr_db"] is None else f"{output['snr_db']:.1f} dB"
        same = (
            "" if interval is None else f"{interval['value']:.1f} % ({interval['low']:.1f} to {interval['high']:.1f}), "
        )
        rows.append((kind["kind"], f"{same}{snr} on {kind['samples']} inputs{own}"))
    predicted = None if agreement is None else agreement.get("predicted")
    if rows and predicted is not None and predicted["kind"] != "data":
        figures = f"{predicted['value']:.1f} % ({predicted['low']:.1f} to {predicted['high']:.1f})"
        rows.append(
            (
                "real inputs",
                f"{figures} predicted: networks are surer of inputs like those of training, unless the task is hard",
            )
        )
    heading = "95 % interval of the agreement, signal to noise of the worst output"
    return Group("", title("against float", heading), facts(rows)) if rows else None


def show_noise(noise: Mapping[str, Any] | None, everything: bool = False) -> Group | None:
    """The layers with the most noise of their own, each with its cause and remedy."""
    layers = [] if noise is None else [layer for layer in noise["layers"] if layer.get("causes")]
    layers = [layer for layer in layers if everything or layer["own_snr_db"] < QUIET]
    rows = []
    for layer in layers[:SHOWN_LAYERS]:
        cause = layer["causes"][0]
        figures = f"{layer['own_snr_db']:.1f} dB alone, {100 * layer['share']:.0f} % of all noise"
        rows.append((f"{layer['operator']} {layer['node']}", f"{figures}: {cause['sentence']}; {cause['remedy']}"))
    return Group("", title("what hurts", "each layer's own noise at the outputs"), facts(rows)) if rows else None


def verdict_line(verdict: Mapping[str, Any] | None, *, err: bool = False) -> None:
    """Print the last line, on stderr where ``err``."""
    if verdict is None:
        return
    colors = {"OK": "green", "CHECK": "yellow", "BAD": "red"}
    command = f"; next: {verdict['command']}" if verdict["command"] else ""
    status = click.style(verdict["status"], fg=colors[verdict["status"]], bold=True)
    rest = printable(" ".join(f"{verdict['reason']}{command}".split()))
    click.echo(f"{status}: {rest}", err=err)
