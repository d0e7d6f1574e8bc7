"""Write the results: model, encodings, samples, comparison, report."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.files.atomic import atomic_folder
from dfq_deploy.files.encodings_file import write_encodings
from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.graph.batch_axis import remove_batch_axis
from dfq_deploy.pipeline.figures import figures_of, judged, with_details
from dfq_deploy.pipeline.outcome import Outcome, closed_model
from dfq_deploy.plugins.contracts import BuildingExporter, Exporter, ImplicitExporter
from dfq_deploy.plugins.registry import exporter_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.encode import measure_ranges
from dfq_deploy.quantization.kept_float import kept_layers, state_kept_float
from dfq_deploy.quantization.ranges import float_tensors
from dfq_deploy.report.model import (
    Report,
)
from dfq_deploy.runtime.moved_batch import with_open_batch
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.samples import Samples

__all__ = ["Calibration", "finish", "results_in"]

logger = logging.getLogger(__name__)

INTEGER_FILE = "model.integer.onnx"


FILES = {
    "model.qdq.onnx": "the quantized model, for ONNX Runtime",
    "model.qdq.onnx.data": "its weights, which one file cannot hold: keep it beside the model",
    INTEGER_FILE: "the same for bytes: pixels from 0 to 255 in, integers out where the runtime writes them",
    f"{INTEGER_FILE}.data": "the weights of the one for bytes",
    "model.tflite": "the same for LiteRT (TensorFlow Lite)",
    "model.integer.tflite": "the one for bytes for LiteRT",
    "model.ort": "the same in ONNX Runtime's own format, for phones",
    "required_operators_and_types.config": "what a build of ONNX Runtime needs for it: --include_ops_by_config",
    "model.integer.ort": "the one for bytes in ONNX Runtime's own format",
    "model.integer.required_operators_and_types.config": "what a build of ONNX Runtime needs for that",
    "model_ctx.onnx": "the same compiled for Qualcomm's NPU",
    "model.integer_ctx.onnx": "the one for bytes compiled for Qualcomm's NPU",
    "model.engine": "the same built by TensorRT for this kind of GPU",
    "model.rtx.engine": "the same compiled by TensorRT-RTX for the GPUs that the report lists, not run here",
    "calibration.cache": "the scale of every tensor of the float model, for TensorRT 10: trtexec --int8 --calib",
    "encodings.json": "scale and zero point of every quantized tensor",
    "samples.npz": "the samples that it was calibrated with; --data takes them again",
    "samples.png": "what they look like",
    "report.json": "all figures",
    "report.html": "the same, to be looked at",
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What :func:`dfq_deploy.calibrate` made.

    Args:
        samples: what it calibrated with and checked on.
        encodings: by tensor name, weights included.
        report: figures and warnings; as a mapping it is what report.json holds.
        model_path: the quantized file; None where no output folder was given.
        files: everything that was written.
    """

    samples: Samples
    encodings: Mapping[str, Encoding]
    report: Report
    model_path: Path | None = None
    files: tuple[Path, ...] = ()


def finish(outcome: Outcome, name: str, output: Path | None, clock: Clock, progress: Progress = SILENT) -> Calibration:
    """Export, check on the held-out samples, report.

    Args:
        name: of the model, for the report.
        output: the folder to fill; None leaves nothing behind but what is returned.

    Raises:
        OutputError: the folder cannot be written.
    """
    outcome = _closed(outcome)
    if output is None:
        with TemporaryDirectory() as folder:
            report, _ = _write(outcome, name, Path(folder), clock, progress)
        return Calibration(outcome.samples, outcome.encodings, report)
    with atomic_folder(output, _earlier(output), seal="report.json") as folder:
        report, written = _write(outcome, name, folder, clock, progress)
    files = tuple(output / file for file in written)
    return Calibration(outcome.samples, outcome.encodings, report, output / "model.qdq.onnx", files)


def results_in(folder: Path) -> tuple[Path, ...]:
    """Return the paths of all files that :func:`finish` may write into ``folder``."""
    return tuple(folder / name for name in FILES)


def _earlier(folder: Path) -> tuple[str, ...]:
    """The files that an earlier run wrote into ``folder``, as its report lists them."""
    try:
        listed = parsed_json((folder / "report.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(name for name in FILES if name in listed)


def _write(
    outcome: Outcome, name: str, folder: Path, clock: Clock, progress: Progress
) -> tuple[Report, tuple[str, ...]]:
    from dfq_deploy.report.compared import compared
    from dfq_deploy.report.thumbnails import thumbnails
    from dfq_deploy.report.writing import write_report
    from dfq_deploy.samples.contact_sheet import contact_sheet

    exporter = outcome.exporter or exporter_of(outcome.target.exporter)
    path = folder / "model.qdq.onnx"
    if outcome.preprocess is not None:
        outcome.preprocess.state_in(outcome.prepared.metadata_props)
    state_kept_float(outcome.prepared.metadata_props, kept_layers(outcome.placement))
    written = exporter.export(outcome.prepared, outcome.encodings, path)
    engine = written.engine
    said = [*written.notes, *_hand_on_ranges(outcome, exporter, folder, progress)]
    if outcome.integer_io:
        said += _write_integers(outcome, exporter, path)
    if isinstance(exporter, BuildingExporter):
        built = exporter.build(path, replace(outcome.held_out, labels=None), progress)
        said, engine = [*said, *built.notes], built.engine
    outcome = replace(outcome, warnings=(*outcome.warnings, *said))
    outcome.samples.save(folder / "samples.npz")
    contact_sheet(outcome.samples, outcome.preprocess, folder / "samples.png")
    write_encodings(outcome.encodings, folder / "encodings.json")
    clock.lap("export")
    runners = (
        Runner(outcome.source, name="the float model", quiet_threads=True),
        Runner(path, name="the quantized model", quiet_threads=True),
    )
    report = replace(figures_of(outcome, name, path, runners, progress), engine=engine)
    if outcome.integer_io:
        report = replace(report, integer_io=_compared(outcome, path.with_name(INTEGER_FILE), progress))
    clock.lap("check")
    report = judged(outcome, report, path, runners, clock, progress)
    clock.lap("verdict")
    report = with_details(outcome, report, runners)
    clock.lap("report")
    files = {file: what for file, what in FILES.items() if (folder / file).exists() or "report" in file}
    report = replace(report, seconds=dict(clock.seconds), files=files)
    if outcome.about is not None and outcome.about.other is not None:
        report = replace(report, compared=compared(report, outcome.about.other, outcome.about.name))
    shown = [answer.index for answer in report.answers or ()]
    write_report(report, folder, thumbnails(outcome.samples, outcome.preprocess, shown))
    return report, tuple(sorted(file.name for file in folder.iterdir()))


def _write_integers(outcome: Outcome, exporter: Exporter, path: Path) -> tuple[str, ...]:
    """Write the QDQ file at ``path`` once more, for bytes in and integers out; what stays float."""
    from dfq_deploy.graph.loading import load_quantized
    from dfq_deploy.quantization.integer_io import integer_io

    model = load_quantized(path)
    said = integer_io(model, outcome.preprocess, mixed_signs=outcome.target.shifts_unsigned)
    exporter.export(model, {}, path.with_name(INTEGER_FILE))
    return said


def _compared(outcome: Outcome, path: Path, progress: Progress) -> Comparison:
    """The file for bytes against the float model."""
    from dfq_deploy.evaluation.compare import compare

    return compare(outcome.source, path, replace(outcome.held_out, labels=None), progress)


def _hand_on_ranges(outcome: Outcome, exporter: Exporter, folder: Path, progress: Progress) -> tuple[str, ...]:
    """Write the range of every tensor of the float model, where the exporter has a file for them.

    Returns:
        why that cannot be done (a mask of infinities among the tensors, say): nothing else depends on it.
    """
    if not isinstance(exporter, ImplicitExporter) or outcome.calibrator is None:
        return ()
    types = dict.fromkeys(float_tensors(outcome.source), outcome.target.activation)
    used, _ = split_held_out(outcome.samples)
    try:
        ranges = measure_ranges(outcome.source, types, outcome.calibrator, used, outcome.preprocess, progress)
        exporter.write_ranges(ranges, folder)
    except DfqError as problem:
        return (f"the ranges of the float model were not written: {problem}",)
    return ()


def _closed(outcome: Outcome) -> Outcome:
    """The model as the target takes it: after calibration, which wants large batches, and before any exporter."""
    model, encodings = closed_model(outcome.prepared, outcome.encodings, outcome.target, outcome.batch)
    said: tuple[str, ...] = ()
    if not outcome.target.static_shapes:
        model, said = with_open_batch(model, outcome.source)
    model, encodings = remove_batch_axis(model, encodings)
    return replace(outcome, prepared=model, encodings=encodings, warnings=(*outcome.warnings, *said))
