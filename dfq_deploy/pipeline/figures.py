"""The figures of a report: comparison, tensors, single samples, the verdict."""

import logging
from dataclasses import replace
from pathlib import Path

from dfq_deploy.graph.large_models import message_bytes
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.query import batch_normalizations, parameter_count
from dfq_deploy.pipeline.next_command import AfterCalibration
from dfq_deploy.pipeline.outcome import Outcome
from dfq_deploy.pipeline.reporting import channels_of, sample_answers
from dfq_deploy.progress import Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.report.model import (
    CalibrationSection,
    FloatNode,
    ModelSection,
    QuantizedSection,
    Report,
    SamplesSection,
    TargetSection,
    TensorRow,
)
from dfq_deploy.runtime.processor import saturation_warnings
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.sizes import CHOSEN

__all__ = ["figures_of", "judged", "with_details"]

logger = logging.getLogger(__name__)

SMALL_BYTES = 100_000
"""Nobody minds what a smaller file takes."""

SHOWN_SAMPLES = 32
"""How many held-out samples the per-tensor table looks at."""


def figures_of(outcome: Outcome, name: str, path: Path, runners: tuple[Runner, Runner], progress: Progress) -> Report:
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
    sizes = _float_bytes(outcome), stored_bytes(path)
    parameters = parameter_count(outcome.source.graph.initializers.values())
    return Report(
        version=__version__,
        model=ModelSection(name, sizes[0], parameters, bytes_by_type(outcome.source)),
        quantized=QuantizedSection(path.name, sizes[1], bytes_by_type(path)),
        target=TargetSection(outcome.target.name, outcome.target.runtime),
        samples=SamplesSection(
            samples.method or "data",
            len(samples),
            len(held),
            outcome.seed,
            outcome.preprocess,
            dict(samples.figures),
            tuple(samples.images.shape[1:]),
            bool(outcome.source.meta.get(CHOSEN)),
        ),
        calibration=CalibrationSection.of(outcome.choices),
        comparison=comparison,
        tensors=tuple(
            TensorRow.of(tensor, _kind(tensor, outcome.placement), encoding, measured.get(tensor))
            for tensor, encoding in outcome.encodings.items()
        ),
        left_float=tuple(FloatNode(*row) for row in outcome.placement.left_float),
        notes=notes,
        warnings=(
            *(said for said in outcome.warnings if said not in notes),
            *comparison.warnings,
            *_larger(*sizes),
        ),
        remedies=outcome.remedies,
    )


def judged(
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
        command=_next(outcome, report),
    )
    found = assess(subject, progress)
    logger.info("verdict: %s", found.verdict)
    warnings = (*report.warnings, *saturation_warnings(path, found.kernels))
    return replace(
        report,
        verdict=found.verdict,
        agreement=found.agreement,
        noise=found.hurts,
        kernels=found.kernels,
        warnings=warnings,
    )


def _next(outcome: Outcome, report: Report) -> AfterCalibration:
    """What to paste next."""
    about = outcome.about
    return AfterCalibration(
        command="" if about is None else about.run.command,
        model=report.model.name if about is None else about.model,
        folder="" if about is None else about.folder,
        quantized=report.quantized.name,
        target=report.target.name,
        method=report.samples.method,
        refined="reconstruct" in report.calibration.refine,
        statistics=any(batch_normalizations(model) for model in (outcome.source, *outcome.teachers)),
    )


def _larger(float_bytes: int, quantized_bytes: int) -> tuple[str, ...]:
    """A sentence where nothing is saved: Q and DQ nodes take more than small weights give."""
    if quantized_bytes <= max(float_bytes, SMALL_BYTES):
        return ()
    return (
        f"the quantized file is larger than the float one ({quantized_bytes:,} bytes against {float_bytes:,}): its "
        "weights are few, and each quantized tensor adds nodes with their names",
    )


def _float_bytes(outcome: Outcome) -> int:
    """Of the file with its external data; of the message where the model was given in memory."""
    from dfq_deploy.graph.file_info import stored_bytes

    file = None if outcome.about is None else Path(outcome.about.model)
    return message_bytes(outcome.source) if file is None or not file.is_file() else stored_bytes(file)


def _kind(tensor: str, placement: Placement) -> str:
    return "weight" if tensor in placement.weights else "activation"


def with_details(outcome: Outcome, report: Report, runners: tuple[Runner, Runner]) -> Report:
    """``report`` with single channels, single samples and the run."""
    said: list[str] = []
    classes = () if outcome.about is None else outcome.about.classes
    answers = sample_answers(runners, outcome.samples, said.append, classes)
    return replace(
        report,
        weights=channels_of(outcome.prepared, outcome.encodings, outcome.placement),
        answers=answers,
        run=None if outcome.about is None else outcome.about.run,
        warnings=(*report.warnings, *said),
    )
