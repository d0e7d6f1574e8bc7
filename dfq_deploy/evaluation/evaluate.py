"""Evaluate a quantized file against its float file: ``dfq_deploy.evaluate``."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.latency import Latency, latencies
from dfq_deploy.evaluation.scale_checks import ScaleCheck, scale_checks
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.file_info import is_quantized, stored_bytes
from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.graph.loading import load, load_quantized
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.graph.writing import write_model
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.kernels import KernelCount, count_kernels
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.image_folder import samples_for
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)

PROCEDURAL_COUNT = 256

SCALE_SAMPLES = 8
"""Samples that scales are judged on: clipping and resolution show on a few."""

SHOWN_SCALES = 5
"""Wrong scales that are named in the warnings."""


@dataclass(frozen=True)
class Evaluation:
    """What ``dfq-deploy evaluate`` shows.

    Args:
        float_model, quantized_model: the files.
        float_bytes, quantized_bytes: their sizes, external data included.
        data: what the samples are, for people.
        comparison: the figures.
        latency: one entry for each batch size; empty where it was not asked for.
        kernels: the quantized file's layers as ONNX Runtime's CPU provider runs them; None for a file of another
            format than ONNX.
        warnings: what limits the figures, each with its way out; wrong scales come first.
        scales: every quantized tensor whose scale can be judged, the worst first; empty for other files than QDQ.
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
            "scales": [check.to_json() for check in self.scales],
        }


def evaluate(
    float_model: "AnyPath | Module",
    quantized_model: AnyPath,
    data: Samples | AnyPath | None = None,
    *,
    source: str = "",
    count: int | None = None,
    labels: AnyPath | None = None,
    preprocess: Preprocess | str | None = None,
    latency: bool = False,
    seed: int = 0,
    device: str = "auto",
    input_shape: tuple[int, ...] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Run both files on the same samples and say how far apart they are.

    Args:
        float_model, quantized_model: any ONNX files with the same input and outputs; the second one need not
            have been written by this package, and the first may be a torch module.
        data: real samples, or where they lie (:mod:`dfq_deploy.samples.image_folder`); None draws pictures by rule,
            which tell agreement but not accuracy.
        source: where ``data`` comes from, for the result; its path where it is given as one.
        count: most samples to take from ``data`` where it is a path, spread evenly, or to draw; None takes all, or
            draws 256.
        labels: a file with the names of the classes, one a line, in the order of the model's scores, for images that
            lie in a folder for each class.
        preprocess: what turns pixels into the input, or a name such as ``imagenet``: of images at a path, and of the
            pictures drawn by rule.
        latency: time both models too.
        seed: of the pictures drawn by rule.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        input_shape: of one sample, e.g. (3, 224, 224), where the float model is a torch module.
        input_shapes: input name -> shape with the batch, where a file leaves the size open, or a module's input is
            to be fixed.
        input_ranges: what other inputs are drawn from, where there is no ``data``.

    Raises:
        ModelError: a file cannot be run, or the two do not match.
        OptionError: an option has a value that it cannot have.
        SamplesError: the samples cannot be read, or do not fit the models.
    """
    pixels = as_preprocess(preprocess)
    if not isinstance(float_model, str | PathLike):
        name = type(float_model).__name__
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            write_model(load(exported(float_model, input_shape), input_shapes=input_shapes, fix_shapes=True), path)
            found = evaluate(
                path, quantized_model, data, source=source, count=count, labels=labels, preprocess=pixels,
                latency=latency, seed=seed, device=device, input_shapes=input_shapes,
                input_ranges=input_ranges, progress=progress,
            )  # fmt: skip
        return replace(found, float_model=name)
    files = as_path(float_model, "the float model"), as_path(quantized_model, "the quantized model")
    if data is not None and not isinstance(data, Samples):
        source = source or str(data)
        data = samples_for(data, load_sized(files[0], input_shapes), pixels, count, labels)
    reference, quantized = (Runner(file, device=device) for file in files)
    warnings = _doubts(files)
    if data is None:
        data = _procedural(reference, files[0], count, pixels, input_shapes, input_ranges, seed, progress)
        warnings += data.notes
        source = f"{len(data)} procedural pictures (seed {seed}), no real data"
        warnings.append("pictures drawn by rule show agreement, not accuracy; give real images with --data")
    elif data.labels is None:
        warnings += data.notes
        warnings.append(
            "the samples have no labels: agreement is shown, accuracy is not; use class sub-folders or 'labels'"
        )
    elif len(data) < 500:
        warnings.append(f"{len(data)} samples tell accuracy only roughly; mind the standard error")
    logger.info("evaluation: %s against %s on %s", files[1], files[0], source or f"{len(data)} samples")
    comparison = compare(reference, quantized, data, progress)
    scales, said = _scales(files, data, input_shapes)
    warnings = [*said, *warnings, *comparison.warnings]
    timed: tuple[Latency, ...] = ()
    if latency:
        quiet = [Runner(file, device=device, quiet_threads=True) for file in files]
        timed = latencies(quiet[0], quiet[1], data, progress=progress)
        if not timed:
            warnings.append("the two models are fixed to different batch sizes, so their latencies are not compared")
    return Evaluation(
        str(files[0]), str(files[1]), stored_bytes(files[0]), stored_bytes(files[1]),
        source or f"{len(data)} samples", comparison, timed, tuple(warnings), _kernels(files[1]), scales,
    )  # fmt: skip


def _kernels(path: Path) -> KernelCount | None:
    return None if is_quantized(path) is None else count_kernels(path)


def _scales(
    files: tuple[Path, Path], data: Samples, shapes: Mapping[str, Sequence[int]] | None
) -> tuple[tuple[ScaleCheck, ...], tuple[str, ...]]:
    """Every scale of the quantized file, and a sentence on each that is wrong, or on why none can be judged."""
    if is_quantized(files[0]) or not is_quantized(files[1]):
        return (), ()
    count = min(SCALE_SAMPLES, len(data))
    part = replace(data, labels=None).part(np.arange(count) * len(data) // count)
    try:
        found = scale_checks(load(files[0], input_shapes=shapes), load_quantized(files[1], shapes), part)
    except DfqError as problem:
        return (), (f"the scales of {files[1]} were not judged: {problem}",)
    return found, tuple(str(check) for check in found[:SHOWN_SCALES] if check.is_fault)


def _doubts(files: Sequence[Path]) -> list[str]:
    """Warnings where the float file is quantized, or the quantized one is not."""
    quantized = [is_quantized(file) for file in files]
    found = []
    if quantized[0]:
        found.append(f"{files[0]} is quantized itself: the first file should be the float model")
    if quantized[1] is False:
        found.append(f"{files[1]} holds no quantized operator: is it the float model?")
    return found


def _procedural(
    reference: Runner,
    path: Path,
    count: int | None,
    preprocess: Preprocess | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
    input_ranges: Mapping[str, tuple[float, float]] | None,
    seed: int,
    progress: Progress,
) -> Samples:
    count = PROCEDURAL_COUNT if count is None else count
    shape = tuple(dim for dim in reference.shape or () if dim is not None)
    plain = len(reference.ports) == 1 and reference.ports[0].is_float and reference.shape == shape
    if plain and not input_ranges and not looks_channels_last(shape):
        from dfq_deploy.plugins.contracts import SynthesisRequest
        from dfq_deploy.plugins.registry import find_plugin

        request = SynthesisRequest(count, shape, preprocess=preprocess, seed=seed)
        samples: Samples = find_plugin("synthesizers", "procedural")().synthesize((), request, progress)
        return samples
    from dfq_deploy.synthesis.session import synthesize_from

    return synthesize_from(
        load_sized(path, input_shapes),
        "procedural",
        (),
        count=count,
        preprocess=preprocess,
        seed=seed,
        device="cpu",
        ranges=input_ranges,
        progress=progress,
    )
