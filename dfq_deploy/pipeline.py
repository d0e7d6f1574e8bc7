"""The steps in order: samples, ranges, encodings, refinement, export, check."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy import graph, plugins
from dfq_deploy.contracts import Calibrator, Feeds, Synthesizer
from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import PluginError, SamplesError
from dfq_deploy.files import probe
from dfq_deploy.folding import fold_batch_normalization
from dfq_deploy.graph import ModelSource
from dfq_deploy.lowering import lower
from dfq_deploy.placement import Placement, encodings_of_weights, place, unify
from dfq_deploy.preprocess import Preprocess
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.results import Calibration, Clock, Outcome, finish
from dfq_deploy.samples import Samples
from dfq_deploy.targets import find_target
from dfq_deploy.torch_export import exported

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["DEFAULT_METHOD", "DEFAULT_REFINE", "REFINERS", "Calibration", "calibrate", "synthesize"]

DEFAULT_METHOD = "mse"
DEFAULT_REFINE = ("bias",)

Refiner: TypeAlias = Callable[[ir.Model, dict[str, Encoding], NDArray[np.float32], Progress], dict[str, Encoding]]
"""Changes the model's weights and biases in place, and returns the encodings that belong to them."""

HEADROOM = 1.2
"""How much wider than measured the ranges of synthesized samples are made.

Their features have the mean and the variance of real ones, but thinner tails: on resnet20_kd the largest
values behind the last block reach 0.6 to 0.8 of those of real images. Clipping what is missing costs more
than the resolution that the headroom takes. Chosen on CIFAR-10 training images (benchmarks/headroom.py).
"""

BATCH = 32
"""Samples that are handed to a calibrator at a time."""


def synthesize(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer = "deepinversion",
    teachers: "Sequence[ModelSource | Module]" = (),
    count: int | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str = "auto",
    input_shape: tuple[int, ...] | None = None,
    progress: Progress = SILENT,
) -> Samples:
    """Make samples for ``model`` from the model alone.

    Args:
        synth: a method's name, or the method itself with its options.
        teachers: the same network with its BatchNormalization kept, where ``model`` has lost it.
        count: number of samples; None leaves it to the size of the input.
        preprocess: what turns pixels into the input; it bounds the samples.
        seed: the same seed gives the same samples.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.

    Raises:
        ModelError: the model or a teacher cannot be used.
        PluginError: no method of that name is installed.
    """
    from dfq_deploy.synthesis.session import synthesize_from

    return synthesize_from(
        graph.load(exported(model, input_shape)),
        synth,
        [graph.load(exported(teacher, input_shape)) for teacher in teachers],
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        progress=progress,
    )


def calibrate(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | None = None,
    target: str = "cpu",
    method: str | Calibrator | None = None,
    refine: Sequence[str] | None = None,
    teachers: "Sequence[ModelSource | Module]" = (),
    count: int | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    progress: Progress = SILENT,
) -> Calibration:
    """Quantize ``model`` for ``target`` with samples that are synthesized, or given as ``data``.

    An eighth of the samples is held out of everything and only used to compare float and INT8.

    Args:
        method: a calibrator's name, or the calibrator itself; None is the one that measures best.
        refine: refinements in order, of :data:`REFINERS`; None is what measures best.
        output: the folder for the results; it is filled when all of them are there. None writes nothing
            but a temporary file for the check.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    if (synth is None) == (data is None):
        raise SamplesError("calibrate needs either a synthesis method or data, and not both")
    refiners = DEFAULT_REFINE if refine is None else tuple(refine)
    for name in refiners:
        if name not in REFINERS:
            raise PluginError(f"no refinement '{name}'; installed: {', '.join(REFINERS)}")
    chosen = find_target(target)
    calibrator: Calibrator = (
        plugins.find("calibrators", method or DEFAULT_METHOD)() if method is None or isinstance(method, str) else method
    )
    if output is not None:
        probe(output)
    clock = Clock()
    model = exported(model, input_shape)
    source = graph.load(model)
    samples = data or synthesize(
        source,
        synth=synth or "",
        teachers=teachers,
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        input_shape=input_shape,
        progress=progress,
    )
    _refuse_misfit(source, samples)
    clock.lap("samples")
    used, held = _split(samples.images)
    prepared = source.clone()
    fold_batch_normalization(prepared)
    lower(prepared, chosen)
    placement = place(prepared, chosen)
    headroom = HEADROOM if samples.method else 1.0
    ranges = _ranges(prepared, placement, calibrator, used, headroom, preprocess, progress)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(prepared, placement, activations=encodings)
    clock.lap("ranges")
    for name in refiners:
        encodings = REFINERS[name](prepared, encodings, used, progress)
    clock.lap("refinement")
    outcome = Outcome(
        source=source,
        prepared=prepared,
        target=chosen,
        placement=placement,
        encodings=encodings,
        samples=samples,
        held_out=held,
        choices={
            "method": method
            if isinstance(method, str)
            else DEFAULT_METHOD
            if method is None
            else type(method).__name__,
            "refine": list(refiners),
            "headroom": headroom,
        },
        seed=seed,
        preprocess=preprocess,
        warnings=samples.notes,
    )
    return finish(outcome, _name(model), output, clock, progress)


def _name(model: ModelSource) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else model.graph.name or "model"


def _correct_biases(
    model: ir.Model, encodings: dict[str, Encoding], images: NDArray[np.float32], progress: Progress
) -> dict[str, Encoding]:
    from dfq_deploy.refine.bias import correct_biases

    correct_biases(model, encodings, images, progress=progress)
    return encodings


REFINERS: Mapping[str, Refiner] = {"bias": _correct_biases}


def _refuse_misfit(model: ir.Model, samples: Samples) -> None:
    expected = graph.sample_shape(model)
    if samples.images.shape[1:] != expected:
        raise SamplesError(f"samples of shape {samples.images.shape[1:]} do not fit the model's input {expected}")


def _split(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The samples to calibrate with, and every eighth, which is held out; tiny sets serve as both."""
    if len(images) < 8:
        return images, images
    held = np.arange(len(images)) % 8 == 7
    return images[~held], images[held]


def _ranges(
    model: ir.Model,
    placement: Placement,
    calibrator: Calibrator,
    images: NDArray[np.float32],
    headroom: float,
    preprocess: Preprocess | None,
    progress: Progress,
) -> dict[str, Range]:
    """Measured ranges with headroom, but for the input, whose range is known where the preprocessing is."""
    name = str(graph.image_input(model).name)
    measured = calibrator.ranges(model, placement.activations, _Batches(name, images), progress)
    found = {tensor: Range(span.low * headroom, span.high * headroom) for tensor, span in measured.items()}
    if preprocess is not None and name in found:
        found[name] = preprocess.range(images.shape[1])
    return unify(found, placement)


@dataclass(frozen=True, eq=False)
class _Batches:
    """Slices of an array as feeds; sized, so that progress has a total."""

    name: str
    images: NDArray[np.float32]

    def __len__(self) -> int:
        return math.ceil(len(self.images) / BATCH)

    def __iter__(self) -> Iterator[Feeds]:
        for start in range(0, len(self.images), BATCH):
            yield {self.name: self.images[start : start + BATCH]}
