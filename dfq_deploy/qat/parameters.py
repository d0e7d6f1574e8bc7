"""Learned weights and biases of the student."""

from torch import Tensor, nn

from dfq_deploy.encodings import Encoding, channel_shape
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer, round_through
from dfq_deploy.quantization.weights import LARGEST_BIAS

__all__ = ["LearnedBias", "LearnedWeight"]


class LearnedWeight(nn.Module):
    """A weight and its encoding, learned; what an optimizer sees is the weight in units of its first step.

    Folded BatchNormalization leaves channels of very different size; in these units one learning rate suits all.
    """

    unit: Tensor

    def __init__(self, values: Tensor, encoding: Encoding) -> None:
        super().__init__()
        self.quantizer = FakeQuantizer(encoding)
        self.register_buffer("unit", self.quantizer.initial.reshape(channel_shape(values.ndim, encoding.axis)))
        self.units = nn.Parameter(values / self.unit)

    def values(self) -> Tensor:
        """Before quantization."""
        return self.units * self.unit

    def forward(self, _: Tensor) -> Tensor:
        """The quantized weight, in place of the twin's own."""
        result: Tensor = self.quantizer(self.values())
        return result


class LearnedBias(nn.Module):
    """A bias, learned in a unit of its own; an int32 bias is rounded to the product of the two steps before it.

    Args:
        unit: of the shape of the bias.
        steps: the quantizers of the activation and of the weight; None where the bias stays float.
    """

    unit: Tensor

    def __init__(self, values: Tensor, unit: Tensor, steps: tuple[FakeQuantizer, FakeQuantizer] | None) -> None:
        super().__init__()
        self.register_buffer("unit", unit)
        self.units = nn.Parameter(values / unit)
        self.steps = () if steps is None else steps  # a tuple, so that they are not registered twice

    def values(self) -> Tensor:
        """Before quantization."""
        return self.units * self.unit

    def forward(self, _: Tensor) -> Tensor:
        """The bias that the file will hold, in place of the twin's own."""
        values = self.values()
        return round_through(values, self.steps[0].step() * self.steps[1].step()) if self.steps else values

    def make_room(self) -> None:
        """Raise the weight's step where the integers of the bias would not fit."""
        if self.steps:
            activation, weight = self.steps
            needed = self.values().abs().reshape(-1) / (activation.step() * LARGEST_BIAS)
            weight.raise_step(needed if weight.axis is not None else needed.max())
