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
from dfq_deploy.synthesis.generators.training import GeneratorSource, Loss, Sampler, Training, shares
from dfq_deploy.synthesis.losses.batch_norm_statistics import relative_distance
from dfq_deploy.twin import Twin

__all__ = ["GeneratorMethod", "GeneratorSchedule", "collected"]

OVERRIDES = ("iterations", "batch", "learning_rate", "channels")
"""Options that take the place of the schedule's numbers."""


@dataclass(frozen=True)
class GeneratorSchedule:
    """A schedule.

    Args:
        iterations: steps of the generator for a set of samples, all together.
        warmup: how many of them come before a student joins.
        batch: images of one step.
        channels: of the generator's feature maps.
        learning_rate: Adam's, at the start.
        milestones: shares of the iterations after which it is divided by ten.
    """

    iterations: int
    warmup: int
    batch: int
    channels: int = 128
    learning_rate: float = 1e-3
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class GeneratorMethod(Generative):
    """A method that trains generators against a teacher, and draws from them.

    Args:
        schedule: ``paper``, ``short`` (the same losses, sized for a CPU) or ``auto``: ``paper`` on a GPU.
        iterations: steps of the generator for a set of samples; overrides the schedule's number.
        warmup: steps before a student joins; overrides the schedule's number.
        batch: images of one step; overrides the schedule's number.
        learning_rate: Adam's, at the start; overrides the schedule's.
        channels: of the generator's feature maps; overrides the schedule's number.
        latent: length of the latent vectors.
        generator: file of a generator to draw from (or to go on with, in fine-tuning) instead of training one.
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
    """True if samples are sought on which a student differs."""
    plans: ClassVar[dict[tuple[str, str], GeneratorSchedule]]
    """By schedule (paper, short) and size of the image (small, large)."""

    def __post_init__(self) -> None:
        counts = {"iterations": self.iterations, "batch": self.batch, "channels": self.channels, "latent": self.latent}
        check_options(self.name, self.schedule, **counts)
        if self.batch == 1:
            raise OptionError(f"{self.name}: batch=1 has no statistics; it must be at least 2")

    @abstractmethod
    def samplers(self, teacher: Twin, request: SynthesisRequest, plan: GeneratorSchedule) -> list[Sampler]:
        """The generators, freshly initialised."""

    @abstractmethod
    def loss(self) -> Loss:
        """What each of them minimises."""

    def structure(self, plan: GeneratorSchedule) -> dict[str, Any]:
        """The options that decide the sizes of the networks and of what is drawn: they stand in a generator's file."""
        return {"latent": self.latent, "channels": plan.channels, "batch": plan.batch}

    def plan(self, request: SynthesisRequest) -> GeneratorSchedule:
        """The schedule with what overrides it; other iterations keep the share of the warm-up."""
        paper, large = is_paper(self.schedule, request), is_large(request)
        known = self.plans["paper" if paper else "short", "large" if large else "small"]
        given = {option: getattr(self, option) for option in OVERRIDES if getattr(self, option) is not None}
        plan = replace(known, **given)
        warmup = plan.iterations * known.warmup // known.iterations if self.warmup is None else self.warmup
        return replace(plan, warmup=min(warmup, plan.iterations))

    def source(self, teachers: Sequence[Twin], request: SynthesisRequest) -> Source:
        """What :meth:`prepare` gives back, untrained, for :meth:`Source.restore`.

        Raises:
            ModelError: as :meth:`untrained`.
        """
        return self.untrained(teachers, request)

    def untrained(self, teachers: Sequence[Twin], request: SynthesisRequest) -> GeneratorSource:
        """Generators without training; the seed decides their weights.

        Raises:
            ModelError: the model takes no images, gives no class scores, or has no BatchNormalization.
        """
        teacher = teachers[0]
        self._refuse(teacher, request)
        plan = self.plan(request)
        # torch's initialisers draw from the global generator, which is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)
            samplers = [_placed(sampler, request.device) for sampler in self.samplers(teacher, request, plan)]
        milestones = tuple(int(plan.iterations * share) for share in plan.milestones)
        training = Training(plan.batch, plan.learning_rate, milestones)
        return GeneratorSource(samplers, teacher, self.loss(), training, uses_students=self.needs_student)

    def prepare(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """The generators after their warm-up, or those of the file ``generator``."""
        source, _ = self._warm(teachers, request, progress)
        return source

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Train on the first teacher, or take what ``generator`` holds, and draw ``request.count`` samples.

        Raises:
            ModelError: the model does not fit (see :meth:`untrained`), or a student is needed and there is none.
            SamplesError: the file ``generator`` does not fit, or the losses diverged.
        """
        return collected(self.trained(teachers, request, progress), request, progress)

    def trained(
        self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT
    ) -> GeneratorSource:
        """The generators after all their iterations; a student joins after the warm-up where the method needs one."""
        if self.needs_student and request.student is None and self.generator is None:
            raise ModelError(
                f"{self.name} seeks samples on which a quantized network differs, and none is at hand; let "
                "dfq_deploy.synthesize, calibrate or finetune make one, give SynthesisRequest a student, or take a "
                "trained generator with --option generator=FILE"
            )
        students = []
        if self.needs_student and self.generator is None and request.student is not None:
            students.append(request.student())
        source, generator = self._warm(teachers, request, progress)
        if self.generator is None:
            plan = self.plan(request)
            left = plan.iterations - source.steps
            progress.start(self.name, left)
            source.train(left, students, generator, progress, request.journal)
        if self.save is not None:
            state = {name: value for name, value in source.state().items() if name != "optimizer"}
            structure = self.structure(self.plan(request))
            GeneratorFile(self.name, request.shape, request.classes, structure, state).save(Path(self.save))
        return source

    def _warm(
        self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress
    ) -> tuple[GeneratorSource, torch.Generator]:
        """The generators where a student joins, and what their latents are drawn with."""
        generator = torch.Generator().manual_seed(request.seed)
        if self.generator is not None:
            path = Path(self.generator)
            file = GeneratorFile.load(path)
            file.refuse_misfit(path, self.name, request.shape, request.classes)
            try:
                source = replace(self, **file.structure).untrained(teachers, request)
                source.restore(file.state)
            except (TypeError, OptionError, SamplesError) as problem:
                raise SamplesError(f"{path}: {problem}; train one on this model") from None
            return source, generator
        source, plan = self.untrained(teachers, request), self.plan(request)
        noted = None if request.journal is None else request.journal.load_state()
        if noted is not None:
            source.restore(noted["source"])
            generator.set_state(noted["generator"])
        left = max(0, plan.warmup - source.steps)
        progress.start(f"{self.name} warm-up", left)
        source.train(left, (), generator, progress, request.journal)
        return source, generator

    def _refuse(self, teacher: Twin, request: SynthesisRequest) -> None:
        way_out = "use --synth procedural, or another method of `dfq-deploy methods`"
        if len(request.shape) != 3:
            raise ModelError(f"{self.name} makes images (C, H, W), and the model's input is {request.shape}; {way_out}")
        if request.classes is None:
            raise ModelError(f"{self.name} needs class scores (N, K), and the model's first output is none; {way_out}")
        require_batch_norm(self.name, [teacher])


def _placed(sampler: Sampler, device: str) -> Sampler:
    return sampler.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def collected(source: GeneratorSource, request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
    """``request.count`` samples, drawn in batches; labels are what the generator was told, or the teacher's softmax.

    The seed alone decides what is drawn, so that a generator that is loaded draws the same again.
    """
    generator = torch.Generator().manual_seed(request.seed)
    sizes = shares(request.count, math.ceil(request.count / source.training.batch))
    images = allocate((request.count, *request.shape))
    labels: list[NDArray[np.float32]] = []
    distances: list[float] = []
    hits: list[Tensor] = []
    progress.start("drawing", len(sizes))
    for size in sizes:
        drawn, known = source.draw(size, generator)
        scores, layers = source.look(drawn)
        images[len(labels) :][:size] = drawn.cpu().numpy()
        labels.extend((torch.softmax(scores, 1) if known is None else known).cpu().numpy())
        distances.append(relative_distance(layers))
        if known is not None:
            hits.append(scores.argmax(1) == known.argmax(1))
        progress.advance()
    figures = {"statistics_distance": float(np.average(distances, weights=sizes))}
    if hits:
        figures["target_hit"] = float(torch.cat(hits).float().mean())
    return Samples(images, np.stack(labels).astype(np.float32), figures=figures)
