"""Measure what a forward pass keeps for its backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["kept_bytes"]


def kept_bytes(run: Callable[[Tensor], object], images: Tensor, weights: Iterable[Tensor]) -> int:
    """Bytes that the forward pass ``run`` of images (N, ...) keeps for the backward pass, without the weights."""
    known = {tensor.data_ptr() for tensor in weights}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run(images.detach().clone().requires_grad_())
    del result
    return sum(kept.values())
