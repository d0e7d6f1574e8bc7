"""Learned rounding of weights (AdaRound).

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), ICML 2020, arXiv 2004.10568,
section 3.3. The step is learned jointly, with fixed integers ``floor(w / step0)``: Jeon et al., "Genie", CVPR 2023,
arXiv 2212.04780, section 4.
"""

import torch
from torch import Tensor, nn

from dfq_deploy.encodings import Encoding, channel_shape

__all__ = ["LearnedRounding"]

STRETCH = (-0.1, 1.1)
"""Gamma and zeta of the rectified sigmoid (equation 23), which reaches 0 and 1 for finite parameters."""


class LearnedRounding(nn.Module):
    """Learned rounding of one weight: ``step * clip(floor(w / step0) + h, qmin, qmax)`` with h from 0 to 1.

    Args:
        weight: float32; h is initialized such that the first forward returns ``weight`` itself, unless it is clipped.
        encoding: initial step, zero point and limits.
    """

    floor: Tensor
    zero_point: Tensor
    initial_step: Tensor

    def __init__(self, weight: Tensor, encoding: Encoding) -> None:
        super().__init__()
        self.limits = (encoding.qtype.qmin, encoding.qtype.qmax)
        shape = channel_shape(weight.ndim, encoding.axis)
        self.register_buffer("initial_step", torch.from_numpy(encoding.scale.copy()).reshape(shape).to(weight))
        self.register_buffer("zero_point", torch.from_numpy(encoding.zero_point.copy()).reshape(shape).to(weight))
        quotient = weight / self.initial_step + self.zero_point
        self.register_buffer("floor", torch.floor(quotient))
        fraction = ((quotient - self.floor) - STRETCH[0]) / (STRETCH[1] - STRETCH[0])
        self.logit = nn.Parameter(torch.logit(fraction))
        self.log_step = nn.Parameter(torch.zeros_like(self.initial_step))

    def offset(self) -> Tensor:
        """Return h: 0 rounds down, 1 rounds up."""
        low, high = STRETCH
        return (torch.sigmoid(self.logit) * (high - low) + low).clamp(0, 1)

    def step(self) -> Tensor:
        """Return the step, in a shape that is broadcast to the weight."""
        return self.initial_step * torch.exp(self.log_step)

    def forward(self, _: Tensor) -> Tensor:
        """Return the weight with soft rounding."""
        return ((self.floor + self.offset()).clamp(*self.limits) - self.zero_point) * self.step()

    @torch.no_grad()
    def rounded(self) -> Tensor:
        """Return the quantized weight: each h is rounded to 0 or 1."""
        return ((self.floor + (self.offset() >= 0.5)).clamp(*self.limits) - self.zero_point) * self.step()

    def regularization(self, beta: float) -> Tensor:
        """Return the regularization (equation 24): ``mean(1 - |2 h - 1| ^ beta)``, 0 if all h are 0 or 1."""
        return 1 - (2 * self.offset() - 1).abs().pow(beta).mean()

    @torch.no_grad()
    def encoding(self, initial: Encoding) -> Encoding:
        """Return ``initial`` with the learned step."""
        step = self.step().reshape(initial.scale.shape).cpu().numpy()
        return Encoding(step, initial.zero_point, initial.qtype, initial.axis)
