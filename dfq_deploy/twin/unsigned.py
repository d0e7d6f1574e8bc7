"""Compute unsigned 16, 32 and 64-bit integers as int64."""

import torch
from torch import Tensor

from dfq_deploy.twin.registry import Operator

__all__ = ["UNSIGNED", "widened"]

UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


def widened(operator: Operator, dtypes: tuple[torch.dtype | None, ...]) -> Operator:
    """Wrap an operator so that it falls back to int64 if torch has no kernel for an unsigned type.

    Args:
        operator: the operator.
        dtypes: element types of the outputs, None if unknown.
    """

    def run(*inputs: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        try:
            return operator(*inputs)
        except (NotImplementedError, RuntimeError):
            if not any(tensor is not None and tensor.dtype in UNSIGNED for tensor in inputs):
                raise
        wide = [_wide(tensor) for tensor in inputs]
        result = operator(*wide)
        parts = result if isinstance(result, tuple) else (result,)
        narrow = tuple(
            part if dtype is None else part.to(dtype)
            for part, dtype in zip(parts, (*dtypes, *[None] * len(parts)), strict=False)
        )
        return narrow if isinstance(result, tuple) else narrow[0]

    return run


def _wide(tensor: Tensor | None) -> Tensor | None:
    return tensor.to(torch.int64) if tensor is not None and tensor.dtype in UNSIGNED else tensor
