"""Write the results: model, encodings, samples, comparison, report."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.files.atomic import atomic_folder
from dfq_deploy.files.encodings_file import write_encodings
from dfq_deploy.graph.large_models import message_bytes
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.graph.query import parameter_count
from dfq_deploy.pipeline.reporting import About, channels_of, sample_answers
from dfq_deploy.plugins.contracts import BuildingExporter, Calibrator, Exporter, ImplicitExporter
from dfq_deploy.plugins.registry import exporter_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, measure_ranges
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.quantization.ranges import float_tensors
from dfq_deploy.report.model import (
    CalibrationSection,
    FloatNode,
    ModelSection,
    QuantizedSection,
    Report,
    SamplesSection,
    Section,
    TargetSection,
    TensorRow,
)
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement

__all__ = ["Calibration", "Outcome", "closed_model", "finish", "results_in"]

logger = logging.getLogger(__name__)

SHOWN_SAMPLES = 32
"""How many held-out samples the per-tensor table looks at."""


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


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the steps before the export have found.

    Args:
        source: the model as it was given; ``prepared``: folded, lowered and refined; ``reference``: the same before
            biases were corrected and roundings learned, with the values of ``source``: what tensors are compared with.
        held_out: samples that no step has used.
        choices: calibrator and refinements, for the report.
        warnings: sentences for the user; what loading says (:func:`dfq_deploy.graph.loading.load_notes`) is shown
            apart from them.
        batch: of the file where the target takes no open one.
        integer_io: write the model that takes bytes too.
        exporter: writes the file; None is that of the target.
        calibrator: what measured the ranges; it measures those of all tensors of ``source`` where a runtime takes
            them. None where the float model is no longer what is exported.
        teachers: float models whose statistics the samples matched.
        ranges: what inputs are drawn from, by name.
        device: where the noise of layers is measured.
        remedies: what was tried to reach the floor.
        sets, agreement: held-out inputs, and what was measured on them, where that is known already.
        about: how it was made, and another run to compare it with; None leaves both out of the report.
    """

    source: ir.Model
    prepared: ir.Model
    reference: ir.Model
    target: Target
    placement: Placement
    encodings: Mapping[str, Encoding]
    samples: Samples
    held_out: Samples
    choices: Mapping[str, Any]
    seed: int
    preprocess: Preprocess | None
    warnings: tuple[str, ...]
    batch: int = 1
    calibrator: Calibrator | None = None
    integer_io: bool = False
    exporter: Exporter | None = None
    teachers: Sequence[ir.Model] = ()
    ranges: InputRanges | None = None
    device: str = "cpu"
    remedies: Section | None = None
    sets: tuple[HeldOut, ...] = ()
    agreement: Agreement | None = None
    about: About | None = None


def finish(outcome: Outcome, name: str, output: Path | None, clock: Clock, progress: Progress = SILENT) -> Calibration:
    """Export, check on the held-out samples, report.

    Args:
        name: of the model, for the report.
        output: the folder to fill; None leaves nothing behind but what is returned.

    Raises:
        OutputError: the folder cannot be written.
    """
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
        listed = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
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
    outcome = _closed(outcome)
    if outcome.preprocess is not None:
        outcome.preprocess.state_in(outcome.prepared.metadata_props)
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
    report = replace(_figures(outcome, name, path, runners, progress), engine=engine)
    if outcome.integer_io:
        report = replace(report, integer_io=_compared(outcome, path.with_name(INTEGER_FILE), progress))
    clock.lap("check")
    report = _judged(outcome, report, path, runners, clock, progress)
    clock.lap("verdict")
    report = _with_details(outcome, report, runners)
    clock.lap("report")
    files = {file: what for file, what in FILES.items() if (folder / file).exists() or "report" in file}
    report = replace(report, seconds=dict(clock.seconds), files=files)
    if outcome.about is not None and outcome.about.other is not None:
        report = replace(report, compared=compared(report, outcome.about.other, outcome.about.name))
    shown = [answer.index for answer in report.answers or ()]
    write_report(report, folder, thumbnails(outcome.samples, outcome.preprocess, shown))
    return report, tuple(sorted(file.name for file in folder.iterdir()))


def _with_details(outcome: Outcome, report: Report, runners: tuple[Runner, Runner]) -> Report:
    """``report`` with single channels, single samples and the run."""
    said: list[str] = []
    answers = sample_answers(runners, outcome.samples, said.append)
    return replace(
        report,
        weights=channels_of(outcome.prepared, outcome.encodings, outcome.placement),
        answers=answers,
        run=None if outcome.about is None else outcome.about.run,
        warnings=(*report.warnings, *said),
    )


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
    return replace(outcome, prepared=model, encodings=encodings)


def closed_model(
    prepared: ir.Model, encodings: Mapping[str, Encoding], target: Target, batch: int
) -> tuple[ir.Model, Mapping[str, Encoding]]:
    """The model with its batch fixed where the target takes no open one, and the encodings of what is left.

    What is computed from sizes is constant then, and some of its tensors are gone with their encodings.
    """
    if not target.static_shapes:
        return prepared, encodings
    model = prepared.clone()
    fix_batch(model, batch)
    left = {value.name for node in model.graph for value in node.outputs}
    left |= {value.name for value in model.graph.inputs} | set(model.graph.initializers)
    return model, {name: encoding for name, encoding in encodings.items() if name in left}


def _figures(outcome: Outcome, name: str, path: Path, runners: tuple[Runner, Runner], progress: Progress) -> Report:
    from dfq_deploy import __version__
    from dfq_deploy.evaluation.compare import compare
    from dfq_deploy.evaluation.tensors import tensor_distances
    from dfq_deploy.graph.file_info import bytes_by_type, stored_bytes

    samples, held = outcome.samples, replace(outcome.held_out, labels=None)
    distances = tensor_distances(outcome.reference, path, outcome.encodings, held.part(slice(SHOWN_SAMPLES)))
    measured = {entry.name: entry for entry in distances}
    comparison = compare(*runners, held, progress)
    for output in comparison.outputs:
        logger.info("check: output '%s' on %d held-out samples: SNR %.2f dB", output.name, len(held), output.snr)
    notes = load_notes(outcome.source)
    parameters = parameter_count(outcome.source.graph.initializers.values())
    return Report(
        version=__version__,
        model=ModelSection(name, message_bytes(outcome.source), parameters, bytes_by_type(outcome.source)),
        quantized=QuantizedSection(path.name, stored_bytes(path), bytes_by_type(path)),
        target=TargetSection(outcome.target.name, outcome.target.runtime),
        samples=SamplesSection(
            samples.method or "data", len(samples), len(held), outcome.seed, outcome.preprocess, dict(samples.figures)
        ),
        calibration=CalibrationSection.of(outcome.choices),
        comparison=comparison,
        tensors=tuple(
            TensorRow.of(tensor, _kind(tensor, outcome.placement), encoding, measured.get(tensor))
            for tensor, encoding in outcome.encodings.items()
        ),
        left_float=tuple(FloatNode(*row) for row in outcome.placement.left_float),
        notes=notes,
        warnings=(*(said for said in outcome.warnings if said not in notes), *comparison.warnings),
        remedies=outcome.remedies,
    )


def _judged(
    outcome: Outcome, report: Report, path: Path, runners: tuple[Runner, Runner], clock: Clock, progress: Progress
) -> Report:
    """``report`` with the verdict and what it stands on."""
    from dfq_deploy.verdict.assess import Subject, assess

    accumulated = {row.name: row.distance.snr for row in report.tensors if row.distance is not None}
    subject = Subject(
        source=outcome.source,
        reference=outcome.reference,
        prepared=Prepared(outcome.prepared, outcome.target, Bits(), outcome.placement),
        encodings=outcome.encodings,
        path=path,
        runners=runners,
        samples=outcome.samples,
        held_out=outcome.held_out,
        preprocess=outcome.preprocess,
        teachers=outcome.teachers,
        refine=report.calibration.refine,
        seed=outcome.seed,
        device=outcome.device,
        ranges=outcome.ranges,
        accumulated=accumulated,
        seconds=sum(clock.seconds.values()),
        comparison=report.comparison,
        sets=outcome.sets,
        agreement=outcome.agreement,
        commands=_commands(report),
    )
    found = assess(subject, progress)
    logger.info("verdict: %s", found.verdict)
    return replace(report, verdict=found.verdict, agreement=found.agreement, noise=found.hurts, kernels=found.kernels)


def _commands(report: Report) -> dict[str, str]:
    """What to paste next, by the level, the code or the kind of the finding that decides."""
    float_file, method, target = report.model.name, report.samples.method, report.target.name
    calibrate = f"dfq-deploy calibrate {float_file} --target {target}"
    samples = "--data FOLDER" if method == "data" else f"--synth {method}"
    better = "--keep-float NODE" if "reconstruct" in report.calibration.refine else "--refine reconstruct"
    return {
        "CHECK": f"dfq-deploy evaluate {float_file} {report.quantized.name} --data FOLDER",
        "BAD": f"{calibrate} {samples} {better}",
        "preprocess": f"{calibrate} {samples} --mean MEANS --std DEVIATIONS",
        "samples": f"{calibrate} {'--synth deepinversion' if method == 'data' else '--synth procedural'}",
        **dict.fromkeys(
            ("slower", "layers", "nothing"), f"dfq-deploy inspect {float_file} --target {target} --verbose"
        ),
    }


def _kind(tensor: str, placement: Placement) -> str:
    return "weight" if tensor in placement.weights else "activation"
