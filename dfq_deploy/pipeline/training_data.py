"""Training samples: a fixed set, or a generator that keeps drawing them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import is_channels_last, model_inputs, other_inputs, sample_shape
from dfq_deploy.graph.query import score_count
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.contracts import Generative, Source, SynthesisRequest, Synthesizer
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import pick_device
from dfq_deploy.targets.target import Target
from dfq_deploy.twin.teacher import teacher_of

if TYPE_CHECKING:
    from dfq_deploy.quantization.bit_widths import Bits
    from dfq_deploy.synthesis.procedural.inputs import InputRanges
    from dfq_deploy.synthesis.teachers import TeacherSource

__all__ = ["TrainingData", "default_count", "generative"]

DRAWN = 256
"""Samples that are drawn from a source at a time."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What samples are made of.

    Args:
        model: the float model.
        teachers: the same network with its BatchNormalization; none where the model has it.
        synth: a method's name, or the method itself; empty where there are data.
        data: samples that are given.
        count: number of samples; None leaves it to the size of the input.
        target, bits: what the student of methods that need one is made for.
        verifier, tolerance, unfinished: as :func:`dfq_deploy.synthesize` takes them.
    """

    model: ir.Model
    teachers: Sequence[ir.Model]
    synth: str | Synthesizer
    data: Samples | None
    count: int | None
    preprocess: Preprocess | None
    seed: int
    device: str
    ranges: "InputRanges | None"
    target: Target
    bits: "Bits"
    verifier: "TeacherSource | None" = None
    tolerance: float | None = None
    unfinished: Path | None = None

    def synthesize(self, resume: bool = False, progress: Progress = SILENT) -> Samples:
        """A fixed set; ``resume`` goes on from what ``unfinished`` holds."""
        return synthesize(
            self.model,
            synth=self.synth,
            teachers=self.teachers,
            count=self.count or default_count(sample_shape(self.model)),
            preprocess=self.preprocess,
            target=self.target.name,
            bits=self.bits,
            seed=self.seed,
            device=self.device,
            input_ranges=self.ranges,
            verifier=self.verifier,
            tolerance=self.tolerance,
            unfinished=self.unfinished,
            resume=resume,
            progress=progress,
        )

    def forget(self) -> None:
        """The samples are safe: remove what an interrupted synthesis would go on from."""
        if self.unfinished is not None and self.unfinished.exists():
            shutil.rmtree(self.unfinished)

    def source(self, rank: int, *, trained: bool, progress: Progress = SILENT) -> Source:
        """A source of the method's own, up to where a student joins, or untrained; each process has one.

        Raises:
            ModelError: the model takes more than pictures, or the method does not fit it.
        """
        method = generative(self.synth)
        if method is None:
            raise ModelError(f"{self.synth} makes a fixed set of samples, and is no source")
        if other_inputs(model_inputs(self.model)):
            raise ModelError(
                "a generator draws the main input alone, and the model takes others; fine-tune it on a fixed set: "
                "dfq-deploy synthesize, then finetune --data"
            )
        models = list(self.teachers) or [self.model]
        request = replace(self._request(), seed=self.seed + rank)
        twins = [teacher_of(model, {}, request.device) for model in models]
        return method.prepare(twins, request, progress) if trained else method.source(twins, request)

    @torch.no_grad()
    def drawn(self, source: Source) -> Samples:
        """A fixed set out of a source."""
        name = self.synth if isinstance(self.synth, str) else self.synth.name
        request, images, labels = self._request(), [], []
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, request.count, DRAWN):
            batch, soft = source.draw(min(DRAWN, request.count - start), generator)
            images.append(batch.float().cpu().numpy())
            labels.append(None if soft is None else soft.float().cpu().numpy())
        known = [label for label in labels if label is not None]
        together = np.concatenate(images)
        if is_channels_last(self.model):
            together = np.ascontiguousarray(together.transpose(0, 2, 3, 1))
        return Samples(together, np.concatenate(known) if len(known) == len(labels) else None, method=name)

    def _request(self) -> SynthesisRequest:
        shape = sample_shape(self.model)
        return SynthesisRequest(
            count=self.count or default_count(shape),
            shape=(shape[2], *shape[:2]) if is_channels_last(self.model) else shape,
            classes=score_count(self.model),
            preprocess=self.preprocess,
            seed=self.seed,
            device=pick_device(self.device),
        )


def generative(synth: str | Synthesizer) -> Generative | None:
    """The method where it is one that goes on drawing, else None."""
    method = synthesizer_of(synth)
    return method if isinstance(method, Generative) else None


def default_count(shape: tuple[int, ...]) -> int:
    """1,024 small images, or 256 where they are large: what a CPU makes in the time that training takes."""
    return 1024 if len(shape) != 3 or shape[1] * shape[2] <= 64 * 64 else 256
