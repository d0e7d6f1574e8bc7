"""Check a synthesis method: samples, seeds, global state, interruptions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dfq_deploy.encodings import Range
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.query import score_count
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.plugins.contracts import Generative, RangeSource, SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import SCHEDULES
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import prepare, student_maker
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.journal import FolderJournal
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.testing.models import small_model
from dfq_deploy.testing.options import instance_of, require, same_options
from dfq_deploy.testing.sources import check_source
from dfq_deploy.twin import Twin
from dfq_deploy.twin.teacher import teacher_of

__all__ = ["check_synthesizer"]

COUNT = 3
"""Of the samples that are asked for: no power of two, and more than one."""


def check_synthesizer(method: type[Synthesizer] | Synthesizer, *, model: "ModelSource | None" = None) -> None:
    """Check that a synthesis method keeps the contract of :class:`~dfq_deploy.plugins.contracts.Synthesizer`.

    It is run six times on the CPU: an instance with few iterations makes that quick.

    Args:
        method: the class, whose defaults are then used, or an instance.
        model: what it is run on, for methods that a small convolutional classifier does not suit.

    Raises:
        AssertionError: says what is wrong.
    """
    made: Synthesizer = instance_of(method, Synthesizer)
    _check_declarations(made)
    case = _Case.of(made, small_model(model))
    with same_options(made):
        whole = _Steps(made)
        samples = case.run(0, progress=whole)
        _check_samples(made, samples, case.request)
        _check_seed(case, samples)
        alone = replace(case.request, count=1, preprocess=None)
        _check_samples(made, made.synthesize(case.teachers, alone, SILENT), alone)
        _check_interruption(case, samples, whole.done)
        if isinstance(made, Generative):
            check_source(made, case.teachers, case.request)
        if isinstance(made, RangeSource):
            _check_known_ranges(made, case)


def _check_declarations(method: Synthesizer) -> None:
    for name in ("needs_statistics", "needs_twin"):
        value = getattr(method, name)
        require(isinstance(value, bool), method, f"{name}={value!r} is neither True nor False")
    name = method.name
    require(isinstance(name, str) and bool(name), method, f"name={name!r} is no text")
    require(method.schedule in SCHEDULES, method, f"schedule={method.schedule!r} is none of {', '.join(SCHEDULES)}")
    count = method.iterations
    fits = count is None or (isinstance(count, int) and count >= 1)
    require(fits, method, f"iterations={count!r} is neither None nor a whole number from 1 on")


@dataclass(frozen=True, eq=False)
class _Case:
    """A method, what it is handed and what it is asked for."""

    method: Synthesizer
    model: ir.Model
    teachers: Sequence[Twin]
    request: SynthesisRequest

    @classmethod
    def of(cls, method: Synthesizer, model: ir.Model) -> "_Case":
        shape = sample_shape(model)
        pixels = Preprocess((0.5,), (0.25,))
        request = SynthesisRequest(COUNT, shape, score_count(model), pixels)
        make = student_maker(model, find_target("cpu"), Bits(4, 4))
        needed = method.needs_statistics or method.needs_twin
        teachers = [teacher_of(model, {}, request.device)] if needed else []
        return cls(method, model, teachers, replace(request, student=partial(make, request, {})))

    def run(self, seed: int, **changes: Any) -> Samples:
        """One synthesis, from other states of the global generators each time; they and the teacher must stay."""
        progress = changes.pop("progress", SILENT)
        _disturb_global_generators()
        before, weights = _global_states(), _weights(self.teachers)
        samples = self.method.synthesize(self.teachers, replace(self.request, seed=seed, **changes), progress)
        for name, state in _global_states().items():
            require(
                repr(state) == repr(before[name]),
                self.method,
                f"changes the global generator of {name}; draw from one of its own, seeded with request.seed",
            )
        for name, values in _weights(self.teachers).items():
            require(torch.equal(values, weights[name]), self.method, f"changes '{name}' of the teacher; work on a copy")
        return samples


def _disturb_global_generators() -> None:
    random.random()
    np.random.random()  # noqa: NPY002 - the global one is meant
    torch.rand(1)


def _global_states() -> dict[str, Any]:
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    keys = legacy["state"]["key"].tolist(), legacy["state"]["pos"]
    return {"random": hash(random.getstate()), "numpy": hash(repr(keys)), "torch": hash(_bytes(torch.get_rng_state()))}


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def _weights(teachers: Sequence[Twin]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for teacher in teachers for name, value in teacher.state_dict().items()}


def _check_samples(method: Synthesizer, samples: Samples, request: SynthesisRequest) -> None:
    require(isinstance(samples, Samples), method, f"returns {type(samples).__name__}, and not dfq_deploy.Samples")
    images, labels = samples.images, samples.labels
    require(len(images) == request.count, method, f"makes {len(images)} samples where {request.count} are asked for")
    require(
        images.shape[1:] == request.shape,
        method,
        f"makes samples of shape {images.shape[1:]} where request.shape is {request.shape}",
    )
    require(images.dtype == np.float32, method, f"makes {images.dtype} samples; float32 is needed")
    require(bool(np.isfinite(images).all()), method, "makes samples with NaN or infinity among their values")
    for name, figure in samples.figures.items():
        fits = isinstance(name, str) and bool(np.isfinite(figure))
        require(fits, method, f"its figure {name!r} is {figure!r}, which JSON cannot hold")
    if labels is not None and labels.ndim == 2:
        fits = labels.dtype == np.float32 and labels.shape == (request.count, request.classes)
        require(fits, method, f"soft labels are {labels.dtype} {labels.shape}; float32 (N, classes) is needed")
        sums = labels.sum(axis=1)
        require(
            bool(np.allclose(sums, 1, atol=1e-3)), method, f"soft labels are no probabilities: they add up to {sums}"
        )
    elif labels is not None:
        require(labels.dtype == np.int64, method, f"class labels are {labels.dtype}; int64 (N,) is needed")


def _check_seed(case: _Case, samples: Samples) -> None:
    again, other = case.run(0), case.run(1)
    require(
        np.array_equal(again.images, samples.images),
        case.method,
        "makes other samples for the same request; all that is drawn must come from request.seed",
    )
    require(
        not np.array_equal(other.images, samples.images),
        case.method,
        "makes the same samples for seeds 0 and 1; draw from a generator that is seeded with request.seed",
    )


class _Interrupted(KeyboardInterrupt):
    """What the user's Ctrl-C does."""


@dataclass
class _Steps(Progress):
    """Counts steps, and interrupts after ``limit`` of them."""

    method: Synthesizer
    limit: int | None = None
    done: int = 0
    task: str = ""
    total: int = 0
    of_task: int = field(default=0)

    def start(self, task: str, total: int) -> None:
        """A task begins."""
        self.task, self.total, self.of_task = task, total, 0

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Count, and interrupt where the limit is reached."""
        self.done += steps
        self.of_task += steps
        require(
            self.of_task <= self.total,
            self.method,
            f"reports {self.of_task} steps of '{self.task}', which it said has {self.total}",
        )
        if self.limit is not None and self.done >= self.limit:
            raise _Interrupted


class _EveryStep(FolderJournal):
    """A journal that saves its state after every step."""

    def is_due(self) -> bool:
        return True


def _check_interruption(case: _Case, expected: Samples, steps: int) -> None:
    """Interrupted halfway and run again with the same journal, it must make the samples of an uninterrupted run."""
    if steps < 2:
        return
    with TemporaryDirectory() as folder:
        place = Path(folder) / "unfinished"
        try:
            case.run(0, journal=_EveryStep(place, {}), progress=_Steps(case.method, limit=steps // 2))
        except _Interrupted:
            samples = case.run(0, journal=_EveryStep(place, {}, resume=True))
            require(
                np.array_equal(samples.images, expected.images),
                case.method,
                "makes other samples after an interruption; keep all that decides them in request.journal",
            )
            return
    require(False, case.method, "goes on after Ctrl-C: it catches KeyboardInterrupt")


def _check_known_ranges(method: RangeSource, case: _Case) -> None:
    prepared = prepare(case.model, find_target("cpu"))
    tensors = prepared.placement.activations
    known = method.known_ranges(case.model, [], prepared.model, tensors, case.request.preprocess)
    for name, span in known.items():
        require(name in tensors, method, f"known_ranges tells of '{name}', which was not asked for")
        require(isinstance(span, Range), method, f"known_ranges gives {span!r} for '{name}', and no Range")
