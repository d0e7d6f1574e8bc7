"""Round matrices one input after another, each making up for earlier errors (GPTQ)."""

import torch
from torch import Tensor

__all__ = ["CompensatedRounding"]

BLOCK = 64
"""Inputs that are rounded before what follows them is updated: matrix products instead of one update each."""


class CompensatedRounding:
    """Rounds matrices to multiples of steps, the inputs with the largest products first.

    Frantar et al., "GPTQ", ICLR 2023, section 3; the order is that of the authors' later option.

    Args:
        weights: (G, N, D).
        products: (G, D, D), positive definite: the mean product of each two inputs.
        limits: least and greatest integer.
    """

    def __init__(self, weights: Tensor, products: Tensor, limits: tuple[int, int]) -> None:
        self.weights, self.products, self.limits = weights.double(), products.double(), limits
        order = self.products.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True)
        self._order, self._back = order, order.argsort(dim=1)
        self._groups = torch.arange(len(weights))[:, None]
        ordered = self.products[self._groups[:, :, None], order[:, :, None], order[:, None]]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
        self._factor = torch.linalg.cholesky(inverse, upper=True)

    def rounded(self, step: Tensor, zero: Tensor) -> Tensor:
        """The weights in multiples of the step, (G, N, D).

        Args:
            step, zero: (G, N), scale and zero point of each row.
        """
        left, factor = self._columns(self.weights, self._order), self._factor
        found, inputs = torch.empty_like(left), left.shape[2]
        scale, offset = step.double(), zero.double()
        for first in range(0, inputs, BLOCK):
            last = min(first + BLOCK, inputs)
            errors = torch.empty_like(left[:, :, first:last])
            for column in range(first, last):
                values = left[:, :, column]
                codes = (values / scale + offset).round().clamp(*self.limits)
                found[:, :, column] = (codes - offset) * scale
                error = (values - found[:, :, column]) / factor[:, column, column, None]
                left[:, :, column:last] -= error[:, :, None] * factor[:, None, column, column:last]
                errors[:, :, column - first] = error
            left[:, :, last:] -= errors @ factor[:, first:last, last:]
        return self._columns(found, self._back)

    def error(self, found: Tensor) -> Tensor:
        """Mean square of what rounding to ``found`` changes in the output of each row, (G, N)."""
        difference = self.weights - found
        return ((difference @ self.products) * difference).sum(2)

    def _columns(self, matrices: Tensor, order: Tensor) -> Tensor:
        return matrices.transpose(1, 2)[self._groups, order].transpose(1, 2).contiguous()
