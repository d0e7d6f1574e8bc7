"""Training hyper-parameters."""

from dataclasses import dataclass, field
from math import cos, pi

from dfq_deploy.errors import OptionError
from dfq_deploy.qat.distillation import Distillation
from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.samples.sizes import is_large

__all__ = ["Recipe"]

OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Recipe:
    """A fixed schedule: the last student is the result, and none is chosen by looking.

    Rates are in the parameters' own units, so that the same ones suit all networks: for weights steps of their first
    encoding, for steps their logarithm, for biases what one step of the layer's input moves (in quadrature), for zero
    points integers. The first two were chosen in single runs of 300 steps of 64 on resnet20 at w4a4, judged on CIFAR-10
    training images: behind ``reconstruct`` a student is near already, and larger rates led no nearer. The other numbers
    have hardly been varied.
    All of them rise in the first ``warmup`` of the schedule and fall along a cosine to zero.

    Args:
        epochs: passes over the samples; None takes as many as make ``steps``.
        steps: of the optimizer where ``epochs`` is None.
        batch: samples of one step, of each process.
        weight_rate, step_rate, bias_rate, zero_point_rate: learning rates at the top of the cosine.
        optimizer: ``adam``, or ``sgd`` with Nesterov's momentum of 0.9.
        warmup: part of the schedule, 0 to 1.
        augmentation: what happens to each batch before it is seen.
        distillation: the loss.
        fresh: part of each batch that a source draws anew where the samples come from one; the rest are samples that
            it drew before.
        adapt_every: steps of the student between two of the source that adapts to it; 0 never adapts it.
    """

    epochs: int | None = None
    steps: int = 4000
    batch: int = 128
    weight_rate: float = 0.005
    step_rate: float = 2e-3
    bias_rate: float = 0.01
    zero_point_rate: float = 0.01
    optimizer: str = "adam"
    warmup: float = 0.02
    augmentation: Augmentation = field(default_factory=Augmentation)
    distillation: Distillation = field(default_factory=Distillation)
    fresh: float = 0.5
    adapt_every: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"finetune: {name}={value} must be at least 1")
        for name in ("weight_rate", "step_rate", "bias_rate", "zero_point_rate", "adapt_every"):
            if getattr(self, name) < 0:
                raise OptionError(f"finetune: {name}={getattr(self, name):g} must not be below 0")
        if not (0 <= self.warmup <= 1 and 0 <= self.fresh <= 1):
            raise OptionError(f"finetune: warmup={self.warmup:g} and fresh={self.fresh:g} are parts, from 0 to 1")
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"finetune: optimizer '{self.optimizer}' is none of {', '.join(OPTIMIZERS)}")

    @classmethod
    def suited_to(cls, shape: tuple[int, ...], device: str) -> "Recipe":
        """The defaults for samples of ``shape``; on a CPU what takes minutes, or a quarter of an hour."""
        large, augmentation = is_large(shape), Augmentation.suited_to(shape)
        if device != "cpu":
            return cls(augmentation=augmentation)
        return cls(steps=500 if large else 1000, batch=32 if large else 64, augmentation=augmentation)

    def total(self, samples: int, processes: int = 1) -> int:
        """Steps of the whole schedule for so many samples."""
        if self.epochs is None:
            return self.steps
        return self.epochs * max(1, samples // (self.batch * processes))

    def share(self, step: int, total: int) -> float:
        """What the learning rates are multiplied by in ``step`` of ``total``, 0 to 1."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * total))
        return rise * 0.5 * (1 + cos(pi * step / total))
