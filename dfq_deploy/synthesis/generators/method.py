"""Base class of methods that train a generator."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.errors import ModelError, OptionError, SamplesError
from dfq_deploy.files.arrays import allocate
from dfq_deploy.plugins.contracts import Generative, Source, SynthesisRequest
from dfq_deploy.plugins.options import check_options, is_large, is_paper, require_batch_norm
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.generators.file import GeneratorFile
from dfq_deploy.synthesis.generators.training import (
    GeneratorLoss,
    GeneratorSource,
    GeneratorTraining,
    Sampler,
    split_evenly,
)
from dfq_deploy.synthesis.losses.batch_norm_statistics import relative_distance
from dfq_deploy.twin import Twin

__all__ = ["GeneratorMethod", "GeneratorSchedule", "draw_samples"]

OVERRIDES = ("iterations", "batch", "learning_rate", "channels")
"""Options that override the values of the schedule."""


@dataclass(frozen=True)
class GeneratorSchedule:
    """The training schedule of a generator.

    Args:
        iterations: total number of training steps.
        warmup: number of steps without a student, at the start.
        batch: batch size.
        channels: number of channels of the generator's feature maps.
        learning_rate: initial learning rate of Adam.
        milestones: fractions of the iterations at which the learning rate is divided by ten.
    """

    iterations: int
    warmup: int
    batch: int
    channels: int = 128
    learning_rate: float = 1e-3
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class GeneratorMethod(Generative):
    """Base class of methods that train generators against a teacher and draw samples from them.

    Args:
        schedule: ``paper``, ``short`` (the same losses, sized for a CPU) or ``auto``: ``paper`` on a GPU.
        iterations: total number of training steps; overrides the schedule.
        warmup: number of steps without a student; overrides the schedule.
        batch: batch size; overrides the schedule.
        learning_rate: initial learning rate of Adam; overrides the schedule.
        channels: number of channels of the generator's feature maps; overrides the schedule.
        latent: length of the latent vectors.
        generator: file of a trained generator to use (or to continue training, in fine-tuning) instead of a new one.
        save: file to write the generator to.
    """

    schedule: str = "auto"
    iterations: int | None = None
    warmup: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    channels: int | None = None
    latent: int = 100
    generator: str | None = None
    save: str | None = None

    summary: ClassVar[str]
    needs_statistics: ClassVar[bool] = True
    needs_student: ClassVar[bool] = False
    """True if the loss depends on a student."""
    schedules: ClassVar[dict[tuple[str, str], GeneratorSchedule]]
    """Training schedules by name (paper, short) and image size (small, large)."""

    def __post_init__(self) -> None:
        counts = {"iterations": self.iterations, "batch": self.batch, "channels": self.channels, "latent": self.latent}
        check_options(self.name, self.schedule, **counts)
        if self.batch == 1:
            raise OptionError(f"{self.name}: batch=1 must be at least 2; a batch of one image has no statistics")

    @abstractmethod
    def samplers(self, teacher: Twin, request: SynthesisRequest, schedule: GeneratorSchedule) -> list[Sampler]:
        """Create the generators, newly initialised."""

    @abstractmethod
    def loss(self) -> GeneratorLoss:
        """The loss of each generator."""

    def structure(self, schedule: GeneratorSchedule) -> dict[str, Any]:
        """The options that determine the sizes of the networks and of the batches; stored in the generator's file."""
        return {"latent": self.latent, "channels": schedule.channels, "batch": schedule.batch}

    def schedule_for(self, request: SynthesisRequest) -> GeneratorSchedule:
        """The training schedule with the options that override it; the warm-up is scaled with ``iterations``."""
        paper, large = is_paper(self.schedule, request), is_large(request)
        base = self.schedules["paper" if paper else "short", "large" if large else "small"]
        overrides = {option: getattr(self, option) for option in OVERRIDES if getattr(self, option) is not None}
        schedule = replace(base, **overrides)
        warmup = schedule.iterations * base.warmup // base.iterations if self.warmup is None else self.warmup
        return replace(schedule, warmup=min(warmup, schedule.iterations))

    def source(self, teachers: Sequence[Twin], request: SynthesisRequest) -> Source:
        """The source of :meth:`prepare` without training, for ``Source.restore``.

        Raises:
            ModelError: as :meth:`build`.
        """
        return self.build(teachers, request)

    def build(self, teachers: Sequence[Twin], request: SynthesisRequest) -> GeneratorSource:
        """Create the generators without training them; their weights depend on the seed only.

        Raises:
            ModelError: the model takes no images, gives no class scores, or has no BatchNormalization.
        """
        teacher = teachers[0]
        self._check_teacher(teacher, request)
        schedule = self.schedule_for(request)
        # torch's initialisers draw from the global generator, whose state is restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)
            samplers = [_placed(sampler, request.device) for sampler in self.samplers(teacher, request, schedule)]
        milestones = tuple(int(schedule.iterations * share) for share in schedule.milestones)
        training = GeneratorTraining(schedule.batch, schedule.learning_rate, milestones)
        return GeneratorSource(samplers, teacher, self.loss(), training, uses_students=self.needs_student)

    def prepare(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """Train the generators for the warm-up, or load those of the file ``generator``."""
        source, _ = self._warm_up(teachers, request, progress)
        return source

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Train on the first teacher, or load the file ``generator``, and draw ``request.count`` samples.

        Raises:
            ModelError: the model is not suitable (see :meth:`build`), or a student is needed and there is none.
            SamplesError: the file ``generator`` does not fit, or the losses diverged.
        """
        return draw_samples(self.train(teachers, request, progress), request, progress)

    def train(
        self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT
    ) -> GeneratorSource:
        """Train the generators for all iterations; methods that need a student use it after the warm-up."""
        if self.needs_student and request.student is None and self.generator is None:
            raise ModelError(
                f"{self.name} searches for samples on which a quantized network differs, and no such network is "
                "available; use dfq_deploy.synthesize, calibrate or finetune, which create one, set "
                "SynthesisRequest.student, or load a trained generator with --option generator=FILE"
            )
        students = []
        if self.needs_student and self.generator is None and request.student is not None:
            students.append(request.student())
        source, generator = self._warm_up(teachers, request, progress)
        if self.generator is None:
            schedule = self.schedule_for(request)
            remaining = schedule.iterations - source.steps
            progress.start(self.name, remaining)
            source.train(remaining, students, generator, progress, request.journal)
        if self.save is not None:
            state = {name: value for name, value in source.state().items() if name != "optimizer"}
            structure = self.structure(self.schedule_for(request))
            GeneratorFile(self.name, request.shape, request.classes, structure, state).save(Path(self.save))
        return source

    def _warm_up(
        self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress
    ) -> tuple[GeneratorSource, torch.Generator]:
        """The generators after the warm-up, and the random generator of their latents."""
        generator = torch.Generator().manual_seed(request.seed)
        if self.generator is not None:
            path = Path(self.generator)
            file = GeneratorFile.load(path)
            file.check_fits(path, self.name, request.shape, request.classes)
            try:
                source = replace(self, **file.structure).build(teachers, request)
                source.restore(file.state)
            except (TypeError, OptionError, SamplesError) as problem:
                raise SamplesError(f"{path}: {problem}; train one on this model") from None
            return source, generator
        source, schedule = self.build(teachers, request), self.schedule_for(request)
        saved = None if request.journal is None else request.journal.load_state()
        if saved is not None:
            source.restore(saved["source"])
            generator.set_state(saved["generator"])
        remaining = max(0, schedule.warmup - source.steps)
        progress.start(f"{self.name} warm-up", remaining)
        source.train(remaining, (), generator, progress, request.journal)
        return source, generator

    def _check_teacher(self, teacher: Twin, request: SynthesisRequest) -> None:
        way_out = "use --synth procedural, or another method of `dfq-deploy methods`"
        if len(request.shape) != 3:
            raise ModelError(f"{self.name} makes images (C, H, W), and the model's input is {request.shape}; {way_out}")
        if request.classes is None:
            raise ModelError(f"{self.name} needs class scores (N, K) as the model's first output; {way_out}")
        require_batch_norm(self.name, [teacher])


def _placed(sampler: Sampler, device: str) -> Sampler:
    return sampler.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def draw_samples(source: GeneratorSource, request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
    """Draw ``request.count`` samples in batches; labels are those of the generator, or the softmax of the teacher.

    The random numbers depend on the seed only, so that a loaded generator draws the same samples again.
    """
    generator = torch.Generator().manual_seed(request.seed)
    sizes = split_evenly(request.count, math.ceil(request.count / source.training.batch))
    images = allocate((request.count, *request.shape))
    labels: list[NDArray[np.float32]] = []
    distances: list[float] = []
    hits: list[Tensor] = []
    progress.start("drawing", len(sizes))
    for size in sizes:
        batch, batch_labels = source.draw(size, generator)
        scores, layers = source.teacher_outputs(batch)
        images[len(labels) :][:size] = batch.cpu().numpy()
        labels.extend((torch.softmax(scores, 1) if batch_labels is None else batch_labels).cpu().numpy())
        distances.append(relative_distance(layers))
        if batch_labels is not None:
            hits.append(scores.argmax(1) == batch_labels.argmax(1))
        progress.advance()
    figures = {"statistics_distance": float(np.average(distances, weights=sizes))}
    if hits:
        figures["target_hit"] = float(torch.cat(hits).float().mean())
    return Samples(images, np.stack(labels).astype(np.float32), figures=figures)
