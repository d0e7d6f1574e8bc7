"""Learned rounding of weights (AdaRound).

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), ICML 2020, arXiv 2004.10568,
section 3.3; the step that is learned beside it, with the integers below fixed: Jeon et al., "Genie", CVPR 2023, arXiv
2212.04780, section 4.
"""

import torch
from torch import Tensor, nn

from dfq_deploy.encodings import Encoding, channel_shape

__all__ = ["LearnedRounding"]

STRETCH = (-0.1, 1.1)
"""Zeta and gamma of the rectified sigmoid (equation 23): it reaches 0 and 1 for finite parameters."""


class LearnedRounding(nn.Module):
    """One weight: ``step * clip(floor(w / step0) + h, qmin, qmax)`` with h from 0 to 1, learned.

    Args:
        weight: float32; it is what h starts from, so that the first forward gives ``weight`` itself where it is not
            clipped.
        encoding: step, zero point and limits.
    """

    below: Tensor
    zero_point: Tensor
    first_step: Tensor

    def __init__(self, weight: Tensor, encoding: Encoding) -> None:
        super().__init__()
        self.limits = (encoding.qtype.qmin, encoding.qtype.qmax)
        shape = channel_shape(weight.ndim, encoding.axis)
        self.register_buffer("first_step", torch.from_numpy(encoding.scale.copy()).reshape(shape).to(weight))
        self.register_buffer("zero_point", torch.from_numpy(encoding.zero_point.copy()).reshape(shape).to(weight))
        exact = weight / self.first_step + self.zero_point
        self.register_buffer("below", torch.floor(exact))
        part = ((exact - self.below) - STRETCH[0]) / (STRETCH[1] - STRETCH[0])
        self.inclination = nn.Parameter(torch.logit(part))
        self.log_step = nn.Parameter(torch.zeros_like(self.first_step))

    def up(self) -> Tensor:
        """h: 0 rounds down, 1 up."""
        low, high = STRETCH
        return (torch.sigmoid(self.inclination) * (high - low) + low).clamp(0, 1)

    def step(self) -> Tensor:
        """The step, in a shape that multiplies the weight."""
        return self.first_step * torch.exp(self.log_step)

    def forward(self, _: Tensor) -> Tensor:
        """The weight with its rounding still open."""
        return ((self.below + self.up()).clamp(*self.limits) - self.zero_point) * self.step()

    @torch.no_grad()
    def decided(self) -> Tensor:
        """The weight on its grid: each h goes to 0 or 1, whichever is nearer."""
        return ((self.below + (self.up() >= 0.5)).clamp(*self.limits) - self.zero_point) * self.step()

    def openness(self, beta: float) -> Tensor:
        """The regularization (equation 24): ``mean(1 - |2 h - 1| ^ beta)``, 0 where all are decided."""
        return 1 - (2 * self.up() - 1).abs().pow(beta).mean()

    @torch.no_grad()
    def encoding(self, first: Encoding) -> Encoding:
        """``first`` with the learned step."""
        step = self.step().reshape(first.scale.shape).cpu().numpy()
        return Encoding(step, first.zero_point, first.qtype, first.axis)
