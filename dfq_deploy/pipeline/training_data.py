"""Training samples: a fixed set, or a generator that keeps drawing new ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.sample_quality import with_quality
from dfq_deploy.files.unfinished import remove_unfinished
from dfq_deploy.graph.inputs import is_channels_last, model_inputs, other_inputs, sample_shape
from dfq_deploy.graph.query import score_count
from dfq_deploy.pipeline.options import Resume
from dfq_deploy.pipeline.synthesize import SampleOrder
from dfq_deploy.plugins.contracts import Generative, Source, SynthesisRequest, Synthesizer
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.synthesis.session import pick_device
from dfq_deploy.twin.teacher import teacher_of

if TYPE_CHECKING:
    from dfq_deploy.runtime.runner import Runner

__all__ = ["TrainingData", "generative"]

DRAWN = 256
"""Samples drawn from a generator at a time."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Where training samples come from.

    Args:
        order: what they are synthesized from; its method is empty if ``data`` is given.
        data: samples of the user.
        verifier: a second network that classifies synthesized samples.
        unfinished: a folder for the state of an interrupted synthesis; None keeps nothing.
    """

    order: SampleOrder
    data: Samples | None = None
    verifier: "Runner | None" = None
    unfinished: Path | None = None

    @property
    def model(self) -> ir.Model:
        """The float model."""
        return self.order.model

    @property
    def count(self) -> int:
        """Number of samples: as requested, or the default for the size of the input."""
        return self.order.options.count or default_count(sample_shape(self.model), training=True)

    def synthesize(self, resume: bool = False, progress: Progress = SILENT) -> Samples:
        """A fixed set; ``resume`` continues from ``unfinished``."""
        order = replace(self.order, options=replace(self.order.options, count=self.count))
        samples = order.make(Resume(self.unfinished, resume), progress)
        return with_quality(samples, order.model, order.teachers, self.verifier)

    def remove_unfinished(self) -> None:
        """Remove ``unfinished``, when the samples are saved."""
        if self.unfinished is not None:
            remove_unfinished(self.unfinished)

    def source(self, rank: int, *, trained: bool, progress: Progress = SILENT) -> Source:
        """The method's generator: trained up to the point where a student joins, or untrained; one for each process.

        Raises:
            ModelError: the model has more inputs than images, or the method does not apply to it.
        """
        method = generative(self.order.synth)
        if method is None:
            raise ModelError(f"{self.order.synth} makes a fixed set of samples, and is not a generator")
        if other_inputs(model_inputs(self.model)):
            raise ModelError(
                "a generator draws the main input alone, and the model takes others; fine-tune it on a fixed set: "
                "dfq-deploy synthesize, then finetune --data"
            )
        models = list(self.order.teachers) or [self.model]
        request = replace(self._request(), seed=self.order.seed + rank)
        twins = [teacher_of(model, {}, request.device) for model in models]
        return method.prepare(twins, request, progress) if trained else method.source(twins, request)

    @torch.no_grad()
    def drawn(self, source: Source) -> Samples:
        """A fixed set, drawn from a generator."""
        synth = self.order.synth
        name = synth if isinstance(synth, str) else synth.name
        request, images, labels = self._request(), [], []
        generator = torch.Generator().manual_seed(self.order.seed)
        for start in range(0, request.count, DRAWN):
            batch, told = source.draw(min(DRAWN, request.count - start), generator)
            images.append(batch.float().cpu().numpy())
            labels.append(None if told is None else told.float().cpu().numpy())
        known = [label for label in labels if label is not None]
        stacked = np.concatenate(images)
        if is_channels_last(self.model):
            stacked = np.ascontiguousarray(stacked.transpose(0, 2, 3, 1))
        return Samples(
            stacked,
            np.concatenate(known) if len(known) == len(labels) else None,
            method=name,
            synthetic=True,
            preprocess=self.order.preprocess,
        )

    def _request(self) -> SynthesisRequest:
        shape = sample_shape(self.model)
        return SynthesisRequest(
            count=self.count,
            shape=(shape[2], *shape[:2]) if is_channels_last(self.model) else shape,
            classes=score_count(self.model),
            preprocess=self.order.preprocess,
            seed=self.order.seed,
            device=pick_device(self.order.device),
        )


def generative(synth: str | Synthesizer) -> Generative | None:
    """The method if it is a generator that keeps drawing samples, else None."""
    method = synthesizer_of(synth)
    return method if isinstance(method, Generative) else None
