"""Evaluate a quantized file against its float file: the figures of ``dfq_deploy.evaluate``."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.detection.annotations import Annotations, read_annotations
from dfq_deploy.evaluation.detection.map_metric import DetectionTally, check_metric
from dfq_deploy.evaluation.file_checks import check_files
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.float_file import Fed, Shapes, float_file
from dfq_deploy.evaluation.latency import Latency, latencies
from dfq_deploy.evaluation.own_metric import Metric, MetricFigures, OutputStore, measure_metric
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.file_info import is_quantized, stored_bytes
from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.graph.reading import check_file
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.litert.runner import runner_of
from dfq_deploy.runtime.processor import saturation_warnings
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import within_memory
from dfq_deploy.synthesis.text import data_for

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["OTHER_SEED", "Evaluation", "evaluate", "evaluated"]

logger = logging.getLogger(__name__)

OTHER_SEED = 7919
"""Added to the seed, since a calibration with the same seed may have used the samples of that seed itself."""

PROCEDURAL_COUNT = 256

PICTURES = 4
"""Axes of a batch of pictures."""


@dataclass(frozen=True)
class Evaluation:
    """What ``dfq-deploy evaluate`` shows.

    Args:
        float_model, quantized_model: the files.
        float_bytes, quantized_bytes: their sizes, external data included.
        data: what the samples are, for people.
        comparison: the figures.
        latency: one entry for each batch size; empty where it was not asked for.
        kernels: the quantized file's layers as the target runs them; None for a file of another format than ONNX.
        warnings: what limits the figures, each with its way out; wrong scales come first.
        scales: every quantized tensor whose scale can be judged, the worst first; empty for other files than QDQ.
        metric: the user's own figure; None where none was given.
        faults: what else is wrong with the file: a bias, a node, or that it was made from another float file.
    """

    float_model: str
    quantized_model: str
    float_bytes: int
    quantized_bytes: int
    data: str
    comparison: Comparison
    latency: tuple[Latency, ...] = ()
    warnings: tuple[str, ...] = ()
    kernels: KernelCount | None = None
    scales: tuple[ScaleCheck, ...] = ()
    metric: MetricFigures | None = None
    faults: tuple[FileFault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        return {
            "float": self.float_model,
            "quantized": self.quantized_model,
            "float_bytes": self.float_bytes,
            "quantized_bytes": self.quantized_bytes,
            "data": self.data,
            **self.comparison.to_json(),
            "latency": [entry.to_json() for entry in self.latency],
            "warnings": list(self.warnings),
            "kernels": None if self.kernels is None else self.kernels.to_json(),
            "faults": [fault.to_json() for fault in self.faults],
            "scales": [check.to_json() for check in self.scales],
            "metric": None if self.metric is None else self.metric.to_json(),
        }


def evaluate(
    float_model: "AnyPath | Module",
    quantized_model: AnyPath,
    data: Samples | AnyPath | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    input_shapes: Shapes | None = None,
    **options: Any,
) -> Evaluation:
    """The figures alone: :func:`dfq_deploy.evaluate` judges them too, and describes the arguments."""
    with float_file(float_model, input_shape, input_shapes) as (path, name):
        found, _, _ = evaluated(path, quantized_model, data, input_shapes=input_shapes, **options)
    return replace(found, float_model=name)


def _check_files(files: Iterable[Path]) -> None:
    """Check ONNX files before ONNX Runtime loads them; what is none has its own way."""
    for file in files:
        if file.suffix == ".onnx" and file.is_file():
            check_file(file)


def evaluated(
    float_model: Path,
    quantized_model: AnyPath,
    data: Samples | AnyPath | None = None,
    *,
    source: str = "",
    count: int | None = None,
    labels: AnyPath | None = None,
    preprocess: Preprocess | str | None = None,
    latency: bool = False,
    metric: Metric | str | None = None,
    annotations: AnyPath | None = None,
    target: str = "cpu",
    seed: int = 0,
    device: str = "auto",
    input_shapes: Shapes | None = None,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    main_input: str | None = None,
    task: str | None = None,
    accept: Callable[[Samples], None] | None = None,
    progress: Progress = SILENT,
) -> tuple[Evaluation, Samples, Fed]:
    """The figures, the samples that they were measured on, and how the model was fed.

    Args:
        accept: called with the samples as soon as they are read, before a model runs on them; may refuse them.
        others: as :func:`dfq_deploy.evaluate` takes them.

    Raises:
        ModelError, OptionError, SamplesError: as :func:`dfq_deploy.evaluate` does.
    """
    check_metric(metric, annotations, data)
    given_pixels = as_preprocess(preprocess)
    files = float_model, as_path(quantized_model, "the quantized model")
    _check_files(files)
    quantized = runner_of(files[1], device=device, main=main_input)
    stated = quantized.stated_preprocess
    pixels = given_pixels or stated
    main, kind = main_input or quantized.stated_main, task or quantized.stated_task
    fed = Fed(input_shapes, input_ranges, main, kind, pixels, stated)
    reference = Runner(files[0], device=device, main=fed.main_input, task=fed.task)
    if main_input is not None and reference.main.name != main_input:
        listed = ", ".join(port.name for port in reference.ports)
        raise ModelError(f"--main-input {main_input}: no such input; the model's inputs: {listed}")
    given = None
    if annotations is not None and data is not None and not isinstance(data, Samples):
        given = read_annotations(annotations, data, count)
    if data is not None and not isinstance(data, Samples):
        source = source or str(data)
        data = data_for(data, fed.load(files[0]), pixels, count, labels, beside=files[0])
    if data is not None and accept is not None:
        accept(data)
    warnings = _doubts(files, source if labels is not None else "")
    if given_pixels is None and stated is not None:
        warnings.append(f"no --preprocess is given, so that of the quantized file is used: {stated}")
    drawn = data is None
    if data is None:
        data = _procedural(reference, files[0], count, pixels, fed, seed, progress)
        what = "pictures" if len(data.images.shape) == PICTURES else "inputs"
        source = f"{len(data)} procedural {what} (seed {seed}), no real data"
    warnings += [*data.notes, *_limits(data, drawn=drawn, classifies=reference.scores(labelled=True) is not None)]
    logger.info("evaluation: %s against %s on %s", files[1], files[0], source or f"{len(data)} samples")
    comparison, own = _compared(reference, quantized, data, metric, given, progress)
    checks, said = check_files(files, data, fed, min((entry.snr for entry in comparison.outputs), default=math.inf))
    warnings = [*said, *warnings, *comparison.warnings]
    timed: tuple[Latency, ...] = ()
    if latency:
        quiet = [runner_of(file, device=device, quiet_threads=True) for file in files]
        timed = latencies(quiet[0], quiet[1], data, progress=progress)
        if not timed:
            warnings.append("the two models are fixed to different batch sizes, so their latencies are not compared")
    kernels = _kernels(files[1], target)
    warnings += saturation_warnings(files[1], kernels)
    found = Evaluation(
        str(files[0]), str(files[1]), stored_bytes(files[0]), stored_bytes(files[1]), source or f"{len(data)} samples",
        comparison, timed, tuple(warnings), kernels, checks.scales, own, checks.faults,
    )  # fmt: skip
    return found, data, fed


def _compared(
    reference: Runner,
    quantized: Runner,
    data: Samples,
    metric: Metric | str | None,
    annotations: Annotations | None,
    progress: Progress,
) -> tuple[Comparison, MetricFigures | None]:
    """The figures, and those of the metric; outputs are kept only for a metric of the user's own."""
    if metric is None:
        return compare(reference, quantized, data, progress), None
    if isinstance(metric, str):
        tally = DetectionTally.of(reference.head_parts(), reference.output_names, data.images.shape[1:])
        comparison = compare(reference, quantized, data, progress, collect=tally.add)
        return comparison, tally.figures(annotations)
    stores = [OutputStore(runner, reference.output_names) for runner in (reference, quantized)]

    def collect(wanted: Sequence[Output], given: Sequence[Output]) -> None:
        for store, outputs in zip(stores, (wanted, given), strict=True):
            store.add(outputs)

    comparison = compare(reference, quantized, data, progress, collect=collect)
    return comparison, measure_metric(metric, stores[0].arrays(), stores[1].arrays(), data.labels)


def _kernels(path: Path, target: str) -> KernelCount | None:
    return None if is_quantized(path) is None else count_kernels(path, target)


def _limits(data: Samples, *, drawn: bool, classifies: bool) -> Iterator[str]:
    """What samples cannot tell, beside what their notes say; labels tell accuracy of a model that ``classifies``."""
    if drawn:
        pictures = len(data.images.shape) == PICTURES
        what, real = ("pictures", "images") if pictures else ("inputs", "ones")
        yield f"{what} drawn by rule show agreement, not accuracy; give real {real} with --data"
    elif data.labels is not None and len(data) < 500:
        yield f"{len(data)} samples tell accuracy only roughly; mind the standard error"
    elif data.labels is not None or not classifies or any("labels" in note for note in data.notes):
        return
    elif data.originals is not None or not data.notes:  # notes on texts say what they are
        yield "the samples have no labels: agreement is shown, accuracy is not; use class sub-folders or 'labels'"


def _doubts(files: Sequence[Path], named: str) -> list[str]:
    """Warnings where the float file is quantized, the quantized one is not, or arrays are given names of folders.

    Args:
        named: the samples that class names were given for; empty where there are none.
    """
    quantized = [is_quantized(file) for file in files]
    found = []
    if quantized[0]:
        found.append(f"{files[0]} is quantized itself: the first file should be the float model")
    if quantized[1] is False:
        found.append(f"{files[1]} holds no quantized operator: is it the float model?")
    if named.lower().endswith((".npz", ".npy")):
        found.append(
            f"--labels names the classes of folders: those of {named} are numbers, which it leaves as they are"
        )
    return found


def _procedural(
    reference: Runner,
    path: Path,
    count: int | None,
    preprocess: Preprocess | None,
    fed: Fed,
    seed: int,
    progress: Progress,
) -> Samples:
    shape = tuple(dim for dim in reference.shape or () if dim is not None)
    count = within_memory(PROCEDURAL_COUNT, shape) if count is None else count
    seed += OTHER_SEED
    plain = len(reference.ports) == 1 and reference.ports[0].is_float and reference.shape == shape
    known = preprocess is not None and len(shape) == PICTURES - 1  # else the graph may tell what the values are
    if plain and (known or is_quantized(path)) and not fed.ranges and not looks_channels_last(shape):
        from dfq_deploy.plugins.contracts import SynthesisRequest
        from dfq_deploy.plugins.registry import find_plugin

        request = SynthesisRequest(count, shape, preprocess=preprocess, seed=seed)
        samples: Samples = find_plugin("synthesizers", "procedural")().synthesize((), request, progress)
        return samples
    from dfq_deploy.synthesis.session import synthesize_from

    return synthesize_from(
        fed.load(path),
        "procedural",
        (),
        count=count,
        preprocess=preprocess,
        seed=seed,
        device="cpu",
        ranges=fed.ranges,
        progress=progress,
    )
