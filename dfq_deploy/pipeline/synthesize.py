"""Synthesize samples for a model: ``dfq_deploy.synthesize``."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import onnx_ir as ir

from dfq_deploy.evaluation.sample_quality import with_quality
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.reading import ModelSource, blames_the_file
from dfq_deploy.graph.torch_export import TorchSource
from dfq_deploy.pipeline.keywords import SynthesisKeywords, refuse_unknown
from dfq_deploy.pipeline.options import ModelInputs, Resume, SynthesisOptions, check_seed, grouped
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.plugins.registry import AUTO
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import STORED_WIDTHS, Bits, Budget
from dfq_deploy.quantization.encode import student_maker
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.teachers import TeacherSource
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.targets.target import Target

if TYPE_CHECKING:
    from dfq_deploy.runtime.runner import Runner

__all__ = ["SampleOrder", "chosen_method", "load_verifier", "synthesize"]

logger = logging.getLogger(__name__)


@blames_the_file
def synthesize(
    model: "ModelSource | TorchSource",
    *,
    synth: str | Synthesizer = "deepinversion",
    preprocess: Preprocess | str | None = None,
    target: str = "cpu",
    bits: str | Bits | None = None,
    seed: int = 0,
    device: str = "auto",
    inputs: ModelInputs | None = None,
    synthesis: SynthesisOptions | None = None,
    resumption: Resume | None = None,
    progress: Progress = SILENT,
    **keywords: Unpack[SynthesisKeywords],
) -> Samples:
    """Make samples for ``model`` from the model alone.

    Args:
        model: a file, a model in memory, a torch module, or a torch.export program.
        synth: a method's name, or the method itself with its options; ``auto`` is what measures best at ``bits``.
        preprocess: what turns pixels into the input, or a name such as ``imagenet``; it bounds the samples.
        target, bits: what the quantized network is made for that some methods search against.
        seed: the same seed gives the same samples.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        inputs, synthesis, resumption: how the model is fed, what else the method takes, where unfinished work is kept.
        keywords: fields of :class:`~dfq_deploy.pipeline.options.ModelInputs`,
            :class:`~dfq_deploy.pipeline.options.SynthesisOptions` and :class:`~dfq_deploy.pipeline.options.Resume`,
            e.g. ``count=64`` or ``teachers="with_bn.onnx"``.

    Returns:
        the samples; their figures are those of the method and of :func:`dfq_deploy.evaluation.sample_quality.quality`.

    Raises:
        ModelError: the model, a teacher or the verifier cannot be used.
        OptionError: an option has a value that it cannot have.
        PluginError: no method of that name is installed.
        TargetError: the target is unknown.
    """
    refuse_unknown("synthesize", keywords, SynthesisKeywords)
    fed = grouped(ModelInputs, inputs, keywords)
    options = grouped(SynthesisOptions, synthesis, keywords)
    kept = grouped(Resume, resumption, keywords)
    check_seed(seed)
    pixels, runtime = as_preprocess(preprocess), find_target(target)
    widths = bits if isinstance(bits, Bits) else Bits() if bits is None else Bits.parse(str(bits))
    source, _ = fed.load(model)
    verifier = load_verifier(options.verifier, source, pixels, fed)
    teachers = [fed.teacher(teacher, pixels) for teacher in options.teachers]
    synth = chosen_method(synth, source, teachers, widths)[0] or synth
    order = SampleOrder(source, teachers, synth, fed, options, pixels, runtime, widths, seed, device)
    return with_quality(order.make(kept, progress), source, teachers, verifier)


def chosen_method(
    synth: str | Synthesizer | None, model: ir.Model, teachers: Sequence[ir.Model], bits: Bits | Budget
) -> tuple[str | Synthesizer | None, Mapping[str, str]]:
    """The method itself, and for ``auto`` what the report says of the choice (:mod:`dfq_deploy.synthesis.choice`)."""
    if synth != AUTO:
        return synth, {}
    from dfq_deploy.synthesis.choice import choose

    choice = choose(model, teachers, min(STORED_WIDTHS) if isinstance(bits, Budget) else bits.fewest)
    logger.info("synthesis: chose %s, because %s", choice.method, choice.reason)
    return choice.method, {"synth": choice.method, "synth_reason": choice.reason}


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """What samples are synthesized from, with everything loaded.

    Args:
        model: the float model.
        teachers: the same network with its BatchNormalization; none where the model has it.
        synth: a method's name, or the method itself.
        target, bits: what the student of methods that need one is made for.
    """

    model: ir.Model
    teachers: Sequence[ir.Model]
    synth: str | Synthesizer
    inputs: ModelInputs
    options: SynthesisOptions
    preprocess: Preprocess | None
    target: Target
    bits: Bits
    seed: int
    device: str

    def make(self, resumption: Resume, progress: Progress = SILENT) -> Samples:
        """The samples, without figures on their quality.

        Raises:
            ModelError, OptionError, PluginError, SamplesError: as :func:`synthesize`.
        """
        from dfq_deploy.synthesis.session import Checkpointing, synthesize_from

        checkpointing = None
        if resumption.folder is not None:
            # The target and the widths decide the student that some methods search against.
            facts = {"--target": self.target.name, "--bits": self.bits}
            checkpointing = Checkpointing(resumption.folder, resumption.resume, facts)
        return synthesize_from(
            self.model,
            self.synth,
            self.teachers,
            count=self.options.count,
            preprocess=self.preprocess,
            seed=self.seed,
            device=self.device,
            ranges=self.inputs.input_ranges,
            student=student_maker(self.model, self.target, self.bits),
            checkpointing=checkpointing,
            tolerance=self.options.tolerance,
            statistics=self.options.statistics,
            progress=progress,
        )


def load_verifier(
    verifier: "TeacherSource | None", source: ir.Model, preprocess: Preprocess | None, fed: ModelInputs
) -> "Runner | None":
    """The verifier, known to take the model's samples before any are made."""
    from dfq_deploy.runtime.runner import Runner

    if verifier is None:
        return None
    runner = Runner(fed.teacher(verifier, preprocess), name="the verifier")
    runner.check(sample_shape(source))
    return runner
