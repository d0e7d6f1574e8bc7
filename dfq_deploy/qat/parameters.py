"""Learned weights and biases of the student."""

import onnx_ir as ir
import torch
from torch import Tensor, nn

from dfq_deploy.encodings import Encoding, channel_shape
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer, round_through
from dfq_deploy.quantization.weights import LARGEST_BIAS
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums

__all__ = ["LearnedBias", "LearnedWeight"]


class LearnedWeight(nn.Module):
    """A learned weight with its learned encoding; the parameter is the weight in units of its initial step.

    Folded BatchNormalization leaves channels of very different magnitude; in these units one learning rate suits all.
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
        """Return the quantized weight, which replaces that of the twin."""
        result: Tensor = self.quantizer(self.values())
        return result

    def raise_step_for_sums(self, node: ir.Node) -> None:
        """Raise the step where a sum of two products of ``node`` would not fit into 16 bits."""
        sums = neighbor_sums(node, self.values().detach().cpu().numpy())
        if sums is not None:
            needed = torch.from_numpy(sums).to(self.unit) / (LARGEST_SUM - 1)
            self.quantizer.raise_step(needed if self.quantizer.axis is not None else needed.max())


class LearnedBias(nn.Module):
    """A learned bias; an int32 bias is rounded to multiples of activation step times weight step.

    Args:
        unit: scale of the parameter, in the shape of the bias.
        steps: quantizers of the activation and of the weight; None if the bias stays float.
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
        """Return the bias as the file will store it, which replaces that of the twin."""
        values = self.values()
        return round_through(values, self.steps[0].step() * self.steps[1].step()) if self.steps else values

    def raise_step_for_bias(self) -> None:
        """Raise the weight's step where the bias would overflow int32."""
        if self.steps:
            activation, weight = self.steps
            needed = self.values().abs().reshape(-1) / (activation.step() * LARGEST_BIAS)
            weight.raise_step(needed if weight.axis is not None else needed.max())
