"""Swing convolution (GENIE, Jeon et al., CVPR 2023)."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from dfq_deploy.graph.operators import is_op
from dfq_deploy.twin import Twin

__all__ = ["swing", "with_swing_convolutions"]


def swing(features: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Shift features (N, C, H, W) randomly by up to ``reach`` pixels along each axis, with reflection padding.

    Pixels that a stride skips would otherwise get no gradient from the following layers (section 3.1).
    """
    reach = min(reach, features.shape[2] - 1, features.shape[3] - 1)
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = torch.nn.functional.pad(features, (reach,) * 4, mode="reflect")
    return padded[:, :, down : down + features.shape[2], right : right + features.shape[3]]


def with_swing_convolutions(twin: Twin, reach: int, generator: torch.Generator) -> Twin:
    """A copy of ``twin`` in which the input of every strided 2-D Conv is shifted by :func:`swing`."""
    copy = deepcopy(twin)
    for step in twin.steps:
        if is_op(step, "Conv") and len(step.strides) == 2 and max(step.strides) > 1:
            copy.replace(step.name, _with_swing(step.operator, reach, generator))
    return copy


def _with_swing(
    operator: Callable[..., Tensor | tuple[Tensor, ...]], reach: int, generator: torch.Generator
) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    def run(features: Tensor, *rest: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        return operator(swing(features, reach, generator), *rest)

    return run
