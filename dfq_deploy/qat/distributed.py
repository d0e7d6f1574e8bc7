"""Several processes (``torchrun``) that train one student.

Several processes that train one student (``torchrun``): each sees batches of its own, gradients are averaged.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["Processes", "join_processes", "own_device"]

Made = TypeVar("Made")

PATIENCE = timedelta(hours=12)
"""How long the others wait while the first process synthesizes."""


@dataclass(frozen=True)
class Processes:
    """This process among all that train.

    Args:
        rank: its number, from 0.
        count: of all of them; 1 where the plain command was called.
    """

    rank: int = 0
    count: int = 1

    def made_once(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns in the first process, in all of them."""
        if self.count == 1:
            return make()
        box: list[Made | None] = [make() if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0)
        result = box[0]
        assert result is not None
        return result

    def level(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of the first, whose refinement may have ended elsewhere."""
        if self.count > 1:
            state = self.made_once(lambda: {name: value.cpu() for name, value in module.state_dict().items()})
            module.load_state_dict(state)

    @torch.no_grad()
    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their means over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat / self.count, [gradient.numel() for gradient in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the other processes that ``torchrun`` has started, until the block ends; or be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # objects are exchanged on the current GPU
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def own_device(device: str) -> str:
    """The GPU of this process where ``torchrun`` has started one for each; other devices as they are."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if local is not None and device.startswith("cuda") else device
