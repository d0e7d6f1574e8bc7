"""Print the results of calibrate, finetune, export, evaluate and synthesize."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group

from dfq_deploy.cli.views.remedies import show_remedies
from dfq_deploy.cli.views.tables import duration, facts, indented, notes, page, size, table, title, warnings
from dfq_deploy.cli.views.verdict import show_agreement, show_findings, show_noise, verdict_line

if TYPE_CHECKING:
    from dfq_deploy.evaluation.evaluate import Evaluation
    from dfq_deploy.pipeline.export import Exported
    from dfq_deploy.pipeline.results import Calibration
    from dfq_deploy.samples.samples import Samples

PICTURE_AXES = 3
"""Of one sample."""

NAMED = 3
"""How many names a line lists."""

__all__ = ["show_calibration", "show_evaluation", "show_exported", "show_samples"]


def show_samples(samples: "Samples", files: Sequence[Path]) -> None:
    """What ``synthesize`` prints."""
    from dfq_deploy.samples.describe import readable

    rows = readable(samples.figures)
    shape = " x ".join(str(dim) for dim in samples.images.shape[1:])
    page(
        title(f"{len(samples)} samples", f"{shape}, {samples.method}"),
        facts([*rows, *_file_rows(files)]),
        warnings(samples.notes),
    )


def show_exported(found: "Exported") -> None:
    """What ``export`` prints."""
    folder = found.files[0].parent
    rows = [(file.name, size(file.stat().st_size)) for file in found.files]
    page(title("wrote", f"{folder}/"), facts(rows), warnings(found.notes))


def _file_rows(files: Iterable[Path]) -> list[tuple[str, str]]:
    """One row for each file."""
    return [("wrote", str(file)) for file in files]


def show_evaluation(found: "Evaluation", earlier: str = "") -> None:
    """What ``evaluate`` prints.

    Args:
        earlier: what was predicted when the file was quantized.
    """
    page(
        title(f"{Path(found.float_model).name} against {Path(found.quantized_model).name}"),
        facts(
            [
                ("data", f"{found.comparison.count} samples: {found.data}"),
                ("size", _size_text(found.float_bytes, found.quantized_bytes)),
                *_comparison_rows(found.comparison.to_json()),
                ("predicted", earlier),
                ("kernels", "" if found.kernels is None else str(found.kernels)),
            ]
        ),
        _latency(found),
        warnings(found.warnings),
    )


def _size_text(before: int, after: int) -> str:
    """``121 kB to 62.8 kB, 1.9 times smaller``."""
    smaller = before / max(1, after)
    change = f"{smaller:.1f} times smaller" if smaller >= 1 else f"{1 / smaller:.1f} times larger"
    return f"{size(before)} to {size(after)}, {change}"


def _comparison_rows(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows for the figures of a comparison, as its JSON has them."""
    rows = []
    if comparison.get("float_top1") is not None:
        lost = comparison["drop"]
        change = f"{abs(lost):.2f} points {'lost' if lost >= 0 else 'gained'}"
        rows.append(
            (
                "top-1",
                f"{comparison['float_top1']:.2f} % in float, {comparison['quantized_top1']:.2f} % quantized: {change} "
                f"(standard error {comparison['drop_standard_error']:.2f})",
            )
        )
    if comparison.get("agreement") is not None:
        rows.append(("agreement", f"{comparison['agreement']:.2f} % get the same class"))
    if comparison.get("kl_nats") is not None:
        rows.append(("divergence", f"{comparison['kl_nats']:.3g} nats between the class probabilities"))
    rows += _detector_rows(comparison.get("detector"))
    outputs = comparison.get("outputs", ())
    for output in outputs:
        snr = "equal" if output["snr_db"] is None else f"{output['snr_db']:.1f} dB signal to noise"
        name = "output" if len(outputs) == 1 else f"output {output['name']}"
        rows.append((name, f"{snr}, largest difference {output['max_abs_difference']:.4g}"))
    return rows


def _detector_rows(head: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Boxes and scores of a detector, apart."""
    if head is None:
        return []
    noise = ["equal" if head[key] is None else f"{head[key]:.1f} dB" for key in ("boxes_snr_db", "scores_snr_db")]
    boxes, scores = [f"{noise[0]} signal to noise"], [f"{noise[1]} signal to noise"]
    if head["box_overlap"] is not None:
        boxes.append(f"overlap float's by {100 * head['box_overlap']:.1f} %")
        scores.append(f"highest {head['best_score_float']:.2f} in float, {head['best_score_quantized']:.2f} quantized")
    if head["score_shift"] is not None:
        scores.append(f"a score of 0.5 moves by {head['score_shift']:.3f}")
    return [("boxes", ", ".join(boxes)), ("scores", ", ".join(scores))]


def _latency(found: "Evaluation") -> Group | None:
    rows = [
        (
            f"batch {entry.batch}",
            f"{entry.float_ms:.3f} ms",
            f"{entry.quantized_ms:.3f} ms",
            f"{entry.ratio:.2f} times as fast",
            f"{entry.low:.2f} to {entry.high:.2f}",
        )
        for entry in found.latency
    ]
    heads = ("latency (median)", "float", "quantized", "ratio", "quartiles")
    return Group("", indented(table(heads, rows, numbers=True))) if rows else None


def show_calibration(result: "Calibration", verbose: bool) -> None:
    """What ``calibrate`` prints; the figures are the report's."""
    from dfq_deploy.report.formats import in_words
    from dfq_deploy.samples.describe import readable

    report = result.report
    samples, calibration, comparison = (report.get(key, {}) for key in ("samples", "calibration", "comparison"))
    sizes = [report.get(key, {}).get("file_bytes") for key in ("model", "quantized")]
    refined = ", ".join(calibration.get("refine", ()))
    ranges = f"ranges by {calibration.get('method', 'unknown')}{refined and f', refined by {refined}'}"
    seconds = report.get("seconds", {})
    page(
        title(
            f"{report.get('model', {}).get('name', 'model')}{_nothing_in(report)} in {in_words(calibration)}",
            str(report.get("target", {}).get("runtime", "")),
        ),
        facts(
            [
                ("input", _input_text(samples)),
                ("preprocess", _preprocess_text(samples)),
                ("samples", _samples_text(len(result.samples), samples, report.get("run") or {})),
                ("chosen", f"because {reason}" if (reason := calibration.get("synth_reason")) else ""),
                *readable(samples.get("figures", {})),
                ("calibrated", ranges),
                ("bits", _mixture(calibration)),
                ("size", _size_text(*sizes) if all(sizes) else ""),
                ("time", ", ".join(f"{step} {duration(value)}" for step, value in seconds.items())),
            ]
        ),
        *_checked(comparison, report.get("agreement")),
        show_noise(report.get("noise"), verbose),
        show_remedies(report.get("remedies")),
        show_findings(report.get("verdict")),
        _in_float(report.get("left_float", ())),
        _worst(report.get("tensors", ())) if verbose else None,
        notes(str(note) for note in report.get("notes", ())),
        warnings(str(warning) for warning in report.get("warnings", ())),
        _written(result, report.get("files", {})),
        "" if report.get("verdict") else None,
    )
    verdict_line(report.get("verdict"))


def _input_text(samples: Mapping[str, Any]) -> str:
    """The size of one sample, and whether it is a guess."""
    shown = " x ".join(map(str, samples.get("shape", ())))
    return (
        f"{shown}, a guess: the file leaves it open, and --input-shape states it" if samples["size_chosen"] else shown
    )


def _preprocess_text(samples: Mapping[str, Any]) -> str:
    """The name of the preprocess, or its figures; nothing for inputs that are no pictures."""
    from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess

    given = samples.get("preprocess")
    if given is None:
        picture = len(samples.get("shape", ())) == PICTURE_AXES and samples.get("method") != "data"
        return "none given" if picture else ""
    known = Preprocess(tuple(given["mean"]), tuple(given["std"]))
    mean, std = (", ".join(f"{value:.4g}" for value in given[key]) for key in ("mean", "std"))
    name = next((f"{name}: " for name, entry in PREPROCESSES.items() if entry == known), "")
    return f"{name}mean {mean}, std {std}"


def _samples_text(count: int, samples: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """How many, by which method, and which one was asked for where it is another."""
    method, asked = samples.get("method") or "unknown", run.get("options", {}).get("synth", "auto")
    # A configured method has no name here, and a remedy may have added samples of another one.
    other = not asked.startswith("<") and set(asked.split("+")).isdisjoint(method.split("+"))
    instead = f" instead of {asked} (see the warning)" if other and asked != "auto" and method != "data" else ""
    return f"{count} by {method}{instead}, seed {samples.get('seed')}"


def _mixture(calibration: Mapping[str, Any]) -> str:
    """How many layers have how many bits, where they differ."""
    counts = Counter(calibration.get("layers", {}).values())
    listed = ", ".join(f"{count} layers at {bits}" for bits, count in sorted(counts.items(), reverse=True))
    return f"{listed}, the others at 8" if listed else ""


def _checked(comparison: Mapping[str, Any], agreement: Mapping[str, Any] | None) -> list[Group | None]:
    """Float against quantized on each kind of held-out inputs; single outputs where there are several."""
    kinds = show_agreement(agreement)
    rows = _comparison_rows(comparison)
    if kinds is not None:
        several = len(comparison.get("outputs", ())) > 1
        rows = [row for row in rows if row[0] in ("boxes", "scores") or (several and row[0].startswith("output "))]
    heading = "against float" if kinds is None else "each output"
    on = title(heading, f"on {comparison.get('samples')} samples that were held out")
    return [kinds, Group("", on, facts(rows)) if rows else None]


def _nothing_in(report: Mapping[str, Any]) -> str:
    """A word for the title where no layer is quantized; else empty."""
    findings = (report.get("verdict") or {}).get("findings", ())
    return ", nothing" if any(finding.get("code") == "nothing-quantized" for finding in findings) else ""


def _in_float(rows: Sequence[Mapping[str, Any]]) -> Group | None:
    """The layers that stay in float, by reason."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row["reason"], []).append(row["name"])
    shown = [
        (f"{len(found)} layer{'s' if found[1:] else ''}", f"{reason}: {', '.join(found[:NAMED])}{_more(found)}")
        for reason, found in names.items()
    ]
    return Group("", title("in float"), facts(shown)) if shown else None


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - NAMED} more" if len(names) > NAMED else ""


def _worst(tensors: Sequence[Mapping[str, Any]]) -> Group | None:
    """The five tensors with the least signal to noise."""
    measured = [row for row in tensors if row.get("snr_db") is not None]
    rows = [
        (str(row["name"]), f"{row['snr_db']:.1f} dB") for row in sorted(measured, key=lambda row: row["snr_db"])[:5]
    ]
    return Group("", title("noisiest tensors"), facts(rows)) if rows else None


def _written(result: "Calibration", meanings: Mapping[str, str]) -> Group | None:
    if not result.files:
        return None
    order = {name: index for index, name in enumerate(meanings)}
    files = sorted(result.files, key=lambda path: order.get(path.name, len(order)))
    rows = [(path.name, str(meanings.get(path.name, ""))) for path in files]
    return Group("", title("wrote", f"{result.files[0].parent}/"), facts((name, what or " ") for name, what in rows))
