"""Evaluate a quantized file against its float file: ``dfq_deploy.evaluate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.latency import Latency, latencies
from dfq_deploy.graph.file_info import is_quantized, stored_bytes
from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.graph.writing import write_model
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["Evaluation", "evaluate"]

PROCEDURAL_COUNT = 256


@dataclass(frozen=True)
class Evaluation:
    """What ``dfq-deploy evaluate`` shows.

    Args:
        float_model, quantized_model: the files.
        float_bytes, quantized_bytes: their sizes, external data included.
        data: what the samples are, for people.
        comparison: the figures.
        latency: one entry for each batch size; empty where it was not asked for.
        warnings: what limits the figures, each with its way out.
    """

    float_model: str
    quantized_model: str
    float_bytes: int
    quantized_bytes: int
    data: str
    comparison: Comparison
    latency: tuple[Latency, ...] = ()
    warnings: tuple[str, ...] = ()

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
        }


def evaluate(
    float_model: "str | PathLike[str] | Module",
    quantized_model: str | PathLike[str],
    data: Samples | None = None,
    *,
    source: str = "",
    preprocess: Preprocess | None = None,
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
        data: real samples; None draws 256 pictures by rule, which tell agreement but not accuracy.
        source: where ``data`` comes from, for the result.
        preprocess: of the pictures drawn by rule.
        latency: time both models too.
        seed: of the pictures drawn by rule.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        input_shape: of one sample, e.g. (3, 224, 224), where the float model is a torch module.
        input_shapes: of the samples drawn by rule, with the batch, where a file leaves the size open.
        input_ranges: what other inputs are drawn from, where there is no ``data``.

    Raises:
        ModelError: a file cannot be run, or the two do not match.
        SamplesError: the samples do not fit the models.
    """
    if not isinstance(float_model, str | PathLike):
        name = type(float_model).__name__
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            write_model(load(exported(float_model, input_shape)), path)
            found = evaluate(
                path, quantized_model, data, source=source, preprocess=preprocess, latency=latency, seed=seed,
                device=device, progress=progress,
            )  # fmt: skip
        return replace(found, float_model=name)
    files = Path(float_model), Path(quantized_model)
    reference, quantized = (Runner(file, device=device) for file in files)
    warnings = _doubts(files)
    if data is None:
        data = _procedural(reference, files[0], preprocess, input_shapes, input_ranges, seed, progress)
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
    comparison = compare(reference, quantized, data, progress)
    warnings += comparison.warnings
    timed: tuple[Latency, ...] = ()
    if latency:
        quiet = [Runner(file, device=device, quiet_threads=True) for file in files]
        timed = latencies(quiet[0], quiet[1], data, progress=progress)
        if not timed:
            warnings.append("the two models are fixed to different batch sizes, so their latencies are not compared")
    return Evaluation(
        str(files[0]), str(files[1]), stored_bytes(files[0]), stored_bytes(files[1]),
        source or f"{len(data)} samples", comparison, timed, tuple(warnings),
    )  # fmt: skip


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
    preprocess: Preprocess | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
    input_ranges: Mapping[str, tuple[float, float]] | None,
    seed: int,
    progress: Progress,
) -> Samples:
    shape = tuple(dim for dim in reference.shape or () if dim is not None)
    plain = len(reference.ports) == 1 and reference.ports[0].is_float and reference.shape == shape
    if plain and not input_ranges and not looks_channels_last(shape):
        from dfq_deploy.plugins.contracts import SynthesisRequest
        from dfq_deploy.plugins.registry import find_plugin

        request = SynthesisRequest(PROCEDURAL_COUNT, shape, preprocess=preprocess, seed=seed)
        samples: Samples = find_plugin("synthesizers", "procedural")().synthesize((), request, progress)
        return samples
    from dfq_deploy.synthesis.session import synthesize_from

    return synthesize_from(
        load(path, input_shapes=input_shapes),
        "procedural",
        (),
        count=PROCEDURAL_COUNT,
        preprocess=preprocess,
        seed=seed,
        device="cpu",
        ranges=input_ranges,
        progress=progress,
    )
