"""Ranges in closed form, from BatchNormalization alone (Nagel et al., ICCV 2019).

Ranges in closed form: no sample decides anything (Nagel et al., ICCV 2019, arXiv 1906.04721).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir
import torch

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.inputs import is_channels_last, main_input_value
from dfq_deploy.graph.operators import operator_of
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.query import constant_of, name_of, weighted_nodes
from dfq_deploy.plugins.contracts import RangeSource, SynthesisRequest
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.methods.procedural import Procedural
from dfq_deploy.synthesis.moments.moments import Moments
from dfq_deploy.synthesis.moments.propagation import MomentsByName, batch_norm_moments, propagate

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["Analytic"]


@dataclass(frozen=True)
class Analytic(RangeSource):
    """``beta +- reach * gamma`` of every BatchNormalization, carried through activations, additions, pooling and
    concatenation (section 4.2 and appendix C of the paper; :mod:`dfq_deploy.synthesis.moments.propagation` has the
    rules).

    Its samples are procedural pictures. They serve the bias correction and the check, and no range but those of the
    few tensors that no rule reaches.

    Args:
        reach: standard deviations on either side of the mean, 6 in the paper; None is 10 for activations of 8 bits and
            more, and 4 for fewer, where resolution is dearer than tails (both chosen here).
    """

    reach: float | None = None

    summary: ClassVar[str] = (
        "ranges from BatchNormalization's beta and gamma, without samples (Nagel et al., ICCV 2019)"
    )
    needs_statistics: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.reach is not None and not self.reach > 0:
            raise OptionError(f"analytic: reach={self.reach:g} must be above 0")

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Draw ``request.count`` procedural pictures, which decide no range."""
        return Procedural().synthesize(teachers, request, progress)

    def known_ranges(
        self,
        source: ir.Model,
        teachers: Sequence[ir.Model],
        prepared: ir.Model,
        tensors: Mapping[str, QuantType],
        preprocess: Preprocess | None = None,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.RangeSource`; empty where no BatchNormalization is left."""
        bits = min((qtype.bits for qtype in tensors.values()), default=8)
        reach = self.reach or (WIDE if bits >= 8 else NARROW)
        known = batch_norm_moments(source, reach)
        for teacher in teachers:
            known = known or _translated(teacher, source, reach)
        if not known:
            return {}
        found = propagate(prepared, known, _inputs(prepared, preprocess), reach)
        return {
            name: Range(float(found[name].low.min()), float(found[name].high.max()))
            for name in tensors
            if name in found
        }


WIDE = 10.0
"""For 8 bits and more. The paper's 6 clips what real images drive the last layers to (on resnet20_kd they reach twice
as far), and 8 bits have resolution to spare: 26.5 dB of signal to noise against 19.8 on CIFAR-10 training images."""

PIXELS = 3.0
"""For the input: black and white lie up to 2.7 standard deviations from the mean of usual training images."""

NARROW = 4.0
"""For fewer: the best of 2, 3, 4 and 6 at 4 bits (signal to noise of resnet20_kd on CIFAR-10 training images)."""


def _inputs(model: ir.Model, preprocess: Preprocess | None) -> MomentsByName:
    """The main input: normalised as training data is, so of mean 0 and variance 1, within what pixels can be."""
    value = main_input_value(model)
    last = None if value.shape is None or len(value.shape) < 2 else value.shape[1]
    zeros = torch.zeros(last if isinstance(last, int) and not is_channels_last(model) else 1)
    moments = Moments.normal(zeros, zeros + 1, PIXELS)
    if preprocess is not None and len(moments) in (1, 3):
        low, high = (torch.from_numpy(bound).double() for bound in preprocess.bounds(len(moments)))
        moments = moments.within(low, high)
    return {name_of(value): moments}


def _translated(teacher: ir.Model, model: ir.Model, reach: float) -> MomentsByName:
    """What the teacher remembers, by the names of ``model``: their weighted layers correspond one by one."""
    folded = teacher.clone()
    fold_batch_normalization(folded)
    known = batch_norm_moments(teacher, reach)
    pairs = list(zip(weighted_nodes(folded), weighted_nodes(model), strict=False))
    if len(weighted_nodes(folded)) != len(weighted_nodes(model)) or not all(_alike(*pair) for pair in pairs):
        return {}
    return {
        name_of(mine.outputs[0]): known[name_of(theirs.outputs[0])]
        for theirs, mine in pairs
        if name_of(theirs.outputs[0]) in known
    }


def _alike(first: ir.Node, second: ir.Node) -> bool:
    weights = [constant_of(node.inputs[1]) for node in (first, second)]
    return (
        operator_of(first) == operator_of(second)
        and len({str(weight.shape) for weight in weights if weight is not None}) == 1
    )
