"""Float against quantized, both in ONNX Runtime, on real or on made-up samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError
from dfq_deploy.evaluation.latency import Latency, latencies
from dfq_deploy.evaluation.metrics import OutputDistance, OutputTally, Scores, ScoreTally
from dfq_deploy.evaluation.onnxfile import is_quantized, stored_bytes
from dfq_deploy.evaluation.runner import Runnable, Runner, slices
from dfq_deploy.graph import load, to_bytes
from dfq_deploy.ports import channels_last
from dfq_deploy.preprocess import Preprocess
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples import Samples
from dfq_deploy.torch_export import exported

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["Comparison", "Evaluation", "compare", "evaluate"]

PROCEDURAL_COUNT = 256


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples.

    Args:
        count: number of samples.
        outputs: one entry for each output, in order.
        scores: of the first output, where it is one row of class scores for each sample; else None.
        left_out: outputs that are not compared: without a batch axis, or of a size that depends on the sample.
    """

    count: int
    outputs: tuple[OutputDistance, ...]
    scores: Scores | None
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {
            "samples": self.count,
            **({} if self.scores is None else self.scores.to_json()),
            "outputs": [output.to_json() for output in self.outputs],
            **({"outputs_left_out": list(self.left_out)} if self.left_out else {}),
        }


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
            path.write_bytes(to_bytes(load(exported(float_model, input_shape))))
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
        warnings.append(
            "the samples have no labels: agreement is shown, accuracy is not; use class sub-folders or 'labels'"
        )
    elif len(data) < 500:
        warnings.append(f"{len(data)} samples tell accuracy only roughly; mind the standard error")
    comparison = compare(reference, quantized, data, progress)
    if comparison.left_out:
        names = ", ".join(comparison.left_out)
        warnings.append(f"outputs without a batch axis, or of a size that depends on the sample, are left out: {names}")
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


def compare(
    reference: Runner | Runnable, quantized: Runner | Runnable, samples: Samples, progress: Progress = SILENT
) -> Comparison:
    """The figures alone. Memory does not grow with the number of samples.

    Raises:
        ModelError: a model cannot be run, or their outputs do not match.
        SamplesError: the samples do not fit the models.
    """
    first, second = (model if isinstance(model, Runner) else Runner(model) for model in (reference, quantized))
    for runner in (first, second):
        runner.check(samples.images.shape[1:])
    if len(first.output_names) != len(second.output_names):
        raise ModelError(
            f"{second.name}: has {len(second.output_names)} output(s) and {first.name} has "
            f"{len(first.output_names)}; compare a quantized model with the float model that it was made from"
        )
    tallies = {name: OutputTally() for name in first.output_names}
    scores = ScoreTally()
    classes = _classes(samples)
    progress.start("float against quantized", len(samples))
    for part in slices(samples.images):
        chosen = samples.part(part)
        expected, found = first.run(chosen), second.run(chosen)
        for name, wanted, given in zip(first.output_names, expected, found, strict=True):
            if wanted is None or given is None or (wanted.shape != given.shape and name in first.open_outputs):
                tallies.pop(name, None)
            elif wanted.shape != given.shape:
                raise ModelError(
                    f"{second.name}: output '{name}' has shape {given.shape}, the float model's {wanted.shape}"
                )
            elif name in tallies:
                tallies[name].add(wanted, given)
        one, other = expected[0], found[0]
        width = _score_width(one) if one is not None and first.output_names[0] in tallies else 0
        if one is not None and other is not None and width:
            labels = None if classes is None else _checked(classes[part], width)
            scores.add(one.reshape(-1, width), other.reshape(-1, width), labels)
        progress.advance(len(chosen))
    if not tallies:
        raise ModelError(
            f"{first.name}: the size of every output ({', '.join(first.output_names)}) depends on the sample, or has "
            "no batch axis; only outputs whose first axis is the batch can be compared"
        )
    return Comparison(
        len(samples),
        tuple(tally.distance(name) for name, tally in tallies.items()),
        scores.scores() if scores.same else None,
        tuple(name for name in first.output_names if name not in tallies),
    )


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
    if plain and not input_ranges and not channels_last(shape):
        from dfq_deploy.plugins import find
        from dfq_deploy.synthesis.request import SynthesisRequest

        request = SynthesisRequest(PROCEDURAL_COUNT, shape, preprocess=preprocess, seed=seed)
        samples: Samples = find("synthesizers", "procedural")().synthesize((), request, progress)
        return samples
    from dfq_deploy import graph
    from dfq_deploy.synthesis.session import synthesize_from

    return synthesize_from(
        graph.load(path, input_shapes=input_shapes),
        "procedural",
        (),
        count=PROCEDURAL_COUNT,
        preprocess=preprocess,
        seed=seed,
        device="cpu",
        ranges=input_ranges,
        progress=progress,
    )


def _classes(samples: Samples) -> NDArray[np.int64] | None:
    if samples.labels is None:
        return None
    return np.asarray(samples.labels.argmax(axis=1) if samples.labels.ndim == 2 else samples.labels, np.int64)


def _score_width(output: NDArray[Any]) -> int:
    """K where the output is (N, K), (N, K, 1, 1) or the like with at least two classes, else 0."""
    dims = [dim for dim in output.shape[1:] if dim != 1]
    return int(dims[0]) if len(dims) == 1 else 0


def _checked(labels: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    if labels.min() < 0 or labels.max() >= width:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise SamplesError(f"label {wrong} of the samples is outside the model's {width} classes (0 to {width - 1})")
    return labels
