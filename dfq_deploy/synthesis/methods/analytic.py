"""Ranges in closed form, from BatchNormalization alone (Nagel et al., ICCV 2019).

Ranges are computed in closed form, without samples (Nagel et al., ICCV 2019, arXiv 1906.04721).
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
    """``beta +- reach * gamma`` of every BatchNormalization, propagated through activations, additions, pooling and
    concatenation (section 4.2 and appendix C of the paper; :mod:`dfq_deploy.synthesis.moments.propagation` has the
    rules).

    Its samples are procedural images. They are used for the bias correction and the check, and for the ranges of the
    few tensors that no rule covers.

    Args:
        reach: standard deviations on either side of the mean, 6 in the paper; None is 10 for activations of 8 bits and
            more, and 4 for fewer, where resolution matters more than the tails (both chosen here).
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
        """Draw ``request.count`` procedural images, which do not affect the computed ranges."""
        return Procedural().synthesize(teachers, request, progress)

    def known_ranges(
        self,
        source: ir.Model,
        teachers: Sequence[ir.Model],
        prepared: ir.Model,
        tensors: Mapping[str, QuantType],
        preprocess: Preprocess | None = None,
    ) -> dict[str, Range]:
        """See :class:`~dfq_deploy.plugins.contracts.RangeSource`; empty if there is no BatchNormalization."""
        bits = min((qtype.bits for qtype in tensors.values()), default=8)
        reach = self.reach or (WIDE if bits >= 8 else NARROW)
        statistics = batch_norm_moments(source, reach)
        for teacher in teachers:
            statistics = statistics or _teacher_moments(teacher, source, reach)
        if not statistics:
            return {}
        moments = propagate(prepared, statistics, _input_moments(prepared, preprocess), reach)
        return {
            name: Range(float(moments[name].low.min()), float(moments[name].high.max()))
            for name in tensors
            if name in moments
        }


WIDE = 10.0
"""Reach for 8 bits and more. The paper's 6 clips the values of the last layers on real images (on resnet20_kd they are
twice as large), and 8 bits have enough resolution: 26.5 dB signal-to-noise ratio instead of 19.8 on CIFAR-10 training
images."""

PIXELS = 3.0
"""Reach for the input: black and white are up to 2.7 standard deviations from the mean of common training images."""

NARROW = 4.0
"""Reach for fewer bits: the best of 2, 3, 4 and 6 at 4 bits (signal-to-noise ratio of resnet20_kd on CIFAR-10 training
images)."""


def _input_moments(model: ir.Model, preprocess: Preprocess | None) -> MomentsByName:
    """Moments of the main input: mean 0 and variance 1, as for normalised training data, clamped to valid pixels."""
    value = main_input_value(model)
    channels = None if value.shape is None or len(value.shape) < 2 else value.shape[1]
    zeros = torch.zeros(channels if isinstance(channels, int) and not is_channels_last(model) else 1)
    moments = Moments.normal(zeros, zeros + 1, PIXELS)
    if preprocess is not None and len(moments) in (1, 3):
        low, high = (torch.from_numpy(bound).double() for bound in preprocess.bounds(len(moments)))
        moments = moments.clamp(low, high)
    return {name_of(value): moments}


def _teacher_moments(teacher: ir.Model, model: ir.Model, reach: float) -> MomentsByName:
    """The moments of the teacher by the tensor names of ``model``; empty unless their weighted layers correspond."""
    folded = teacher.clone()
    fold_batch_normalization(folded)
    moments = batch_norm_moments(teacher, reach)
    pairs = list(zip(weighted_nodes(folded), weighted_nodes(model), strict=False))
    if len(weighted_nodes(folded)) != len(weighted_nodes(model)) or not all(_correspond(*pair) for pair in pairs):
        return {}
    return {
        name_of(model_node.outputs[0]): moments[name_of(teacher_node.outputs[0])]
        for teacher_node, model_node in pairs
        if name_of(teacher_node.outputs[0]) in moments
    }


def _correspond(first: ir.Node, second: ir.Node) -> bool:
    weights = [constant_of(node.inputs[1]) for node in (first, second)]
    return (
        operator_of(first) == operator_of(second)
        and len({str(weight.shape) for weight in weights if weight is not None}) == 1
    )
