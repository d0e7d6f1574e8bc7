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
    """Hyper-parameters of a fixed schedule: the result is the student after the last step.

    Learning rates are in units of the parameters, so that the same ones suit all networks: weights in steps of their
    initial encoding, steps as logarithms, biases in units of the effect of one step of the layer's input (in
    quadrature), zero points in integers. The first two were chosen in single runs of 300 steps of 64 on resnet20 at
    w4a4, measured on CIFAR-10 training images: after ``reconstruct`` a student is already close to its teacher, and
    larger rates gained nothing. The other numbers have hardly been varied. All rates rise during ``warmup`` and then
    fall along a cosine to zero.

    Args:
        epochs: passes over the samples; None derives them from ``steps``.
        steps: steps of the optimizer if ``epochs`` is None.
        batch: samples per step and process.
        weight_rate, step_rate, bias_rate, zero_point_rate: peak learning rates.
        optimizer: ``adam``, or ``sgd`` with Nesterov momentum of 0.9.
        warmup: fraction of the schedule, 0 to 1.
        augmentation: applied to each batch.
        distillation: weights of the loss terms.
        fresh: fraction of each batch that is newly drawn, if the samples come from a source; the rest are samples that
            it drew before.
        adapt_every: number of student steps between two steps of the source; 0 never adapts it.
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
            raise OptionError(
                f"finetune: warmup={self.warmup:g} and fresh={self.fresh:g} must be fractions from 0 to 1"
            )
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"finetune: no optimizer '{self.optimizer}'; choose one of {', '.join(OPTIMIZERS)}")

    @classmethod
    def suited_to(cls, shape: tuple[int, ...], device: str) -> "Recipe":
        """Return the defaults for samples of ``shape``; on a CPU training takes up to a quarter of an hour."""
        large, augmentation = is_large(shape), Augmentation.suited_to(shape)
        if device != "cpu":
            return cls(augmentation=augmentation)
        return cls(steps=500 if large else 1000, batch=32 if large else 64, augmentation=augmentation)

    def total(self, samples: int, processes: int = 1) -> int:
        """Return the number of steps of the schedule."""
        if self.epochs is None:
            return self.steps
        return self.epochs * max(1, samples // (self.batch * processes))

    def share(self, step: int, total: int) -> float:
        """Return the factor of the learning rates in ``step`` of ``total``, 0 to 1."""
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * total))
        return rise * 0.5 * (1 + cos(pi * step / total))
