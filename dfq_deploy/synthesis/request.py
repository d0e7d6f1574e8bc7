"""What is asked of a synthesis method."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfq_deploy.contracts import Student
from dfq_deploy.errors import SamplesError
from dfq_deploy.preprocess import Preprocess

if TYPE_CHECKING:
    from dfq_deploy.synthesis.journal import Journal
    from dfq_deploy.synthesis.settling import Settling

__all__ = ["SynthesisRequest"]


@dataclass(frozen=True)
class SynthesisRequest:
    """How many samples of which shape, from which seed, on which device.

    Args:
        count: number of samples, at least 1.
        shape: one sample in the model's input space, (C, H, W) for images.
        classes: width of the model's class scores; None where it does not classify.
        preprocess: what turns pixels into the input; None leaves the samples unbounded.
        seed: of the method's own generator; the same seed gives the same samples.
        device: a torch device, e.g. ``cpu`` or ``cuda:0``.
        student: makes the quantized network for methods that search for samples on which it differs from the
            teacher; called once, and only by those. None where there is none.
        journal: keeps finished batches and the state of the running one; None keeps nothing.
        settling: says when a descent has done enough; None lets it run to its end.
    """

    count: int
    shape: tuple[int, ...]
    classes: int | None = None
    preprocess: Preprocess | None = None
    seed: int = 0
    device: str = "cpu"
    student: Callable[[], Student] | None = field(default=None, compare=False)
    journal: "Journal | None" = field(default=None, compare=False)
    settling: "Settling | None" = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SamplesError(f"samples: {self.count} asked for, at least 1 is needed")
