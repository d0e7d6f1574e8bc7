"""Fake quantization with learned steps and offsets (LSQ, LSQ+).

Fake quantization with learned step sizes (LSQ: Esser et al., ICLR 2020, arXiv 1902.08153) and learned offsets (LSQ+:
Bhalgat et al., CVPR Workshops 2020, arXiv 2004.09576).

With step ``s``, zero point ``z`` and integers ``Qn`` to ``Qp`` a value ``v`` becomes
``v^ = clip(round(v / s), Qn - z, Qp - z) * s``, as QuantizeLinear and DequantizeLinear compute it. The gradients:

============================  =========  ================  =========
``v / s``                     d v^/d v   d v^/d s          d v^/d z
============================  =========  ================  =========
inside the ends               1          round(v/s) - v/s  0
at an end ``Q``, or beyond    0          Q - z             -s
============================  =========  ================  =========

Those of ``s`` and ``z`` are multiplied by ``1 / sqrt(n * Qp)`` for ``n`` weights of a channel or ``n`` features of a
sample (LSQ, section 2.2). torch's ``_fake_quantize_learnable_*`` operators do the same, but count values up to half a
step beyond the ends as inside; on a CPU they are not vectorized, and take 20 times as long.
"""

from math import inf, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from dfq_deploy.encodings import Encoding, channel_shape

__all__ = ["FakeQuantizer", "fake_quantize", "round_through"]


class _FakeQuantize(torch.autograd.Function):
    """The autograd function of :func:`fake_quantize`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        values: Tensor,
        step: Tensor,
        zero_point: Tensor,
        limits: tuple[int, int],
        axis: int | None,
        scale: float,
    ) -> Tensor:
        shape = channel_shape(values.ndim, axis)
        floats = values.float()
        steps, zeros = step.reshape(shape), zero_point.round().reshape(shape)
        bottom, top = (limit - zeros for limit in limits)
        grid = torch.div(floats, steps).round_()
        if _takes_numbers(values, axis):
            grid.clamp_(float(bottom), float(top)).mul_(float(steps))
        else:
            grid.clamp_(bottom, top).mul_(steps)
        ctx.save_for_backward(floats, grid, steps, bottom * steps, top * steps)
        ctx.axis, ctx.scale, ctx.shape = axis, scale, step.shape  # type: ignore[attr-defined]
        return grid.to(values.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:
        floats, grid, steps, low, high = ctx.saved_tensors  # type: ignore[attr-defined]
        axis, scale, shape = ctx.axis, ctx.scale, ctx.shape  # type: ignore[attr-defined]
        grad = outer[0].float()
        if grad.stride() != floats.stride():  # one copy, where each pass over two layouts would be slow
            grad = torch.empty_like(floats).copy_(grad)
        through = _masked(grad, floats, low, high, _takes_numbers(floats, axis))
        of_step = of_zero = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            # Inside, grid / s - v / s is round(v / s) - v / s; outside ``through`` is 0 and grid / s is the end.
            total = _product(grad, grid, axis) - _product(through, floats, axis)
            of_step = scale * total.reshape(shape) / steps.reshape(shape)
        if ctx.needs_input_grad[2]:  # type: ignore[attr-defined]
            outside = _sum(grad, axis) - _sum(through, axis)
            of_zero = -scale * outside.reshape(shape) * steps.reshape(shape)
        return through.to(outer[0].dtype), of_step, of_zero, None, None, None


def fake_quantize(
    values: Tensor,
    step: Tensor,
    zero_point: Tensor,
    limits: tuple[int, int],
    axis: int | None = None,
    gradient_scale: float = 1.0,
) -> Tensor:
    """Quantize and dequantize ``values``, with the gradients of the table above.

    Args:
        values: floats of any type; the grid is computed in float32, and the result has the type of ``values``.
        step: float32, positive, shape () or (channels,).
        zero_point: float32 of the same shape; it is rounded, and the gradient ignores the rounding.
        limits: Qn and Qp, the smallest and the largest integer.
        axis: the channel axis where ``step`` has one.
        gradient_scale: factor for the gradients of ``step`` and ``zero_point``.
    """
    result: Tensor = _FakeQuantize.apply(values, step, zero_point, limits, axis, gradient_scale)  # type: ignore[no-untyped-call]
    return result


def round_through(values: Tensor, step: Tensor) -> Tensor:
    """Round ``values`` to multiples of ``step``; the gradient passes unchanged to ``values`` only.

    Computed in float64, as in the exporter: a float32 quotient of 100,000 is off by 0.01.
    """
    size, detached = step.detach().double(), values.detach()
    return values + ((torch.round(detached.double() / size) * size).float() - detached)


def _takes_numbers(values: Tensor, axis: int | None) -> bool:
    """Return True if limits can be converted to Python numbers; on a GPU that would wait for all pending work."""
    return axis is None and values.device.type == "cpu"


def _masked(grad: Tensor, values: Tensor, low: Tensor, high: Tensor, plain: bool) -> Tensor:
    """Return ``grad`` where ``low < values < high``, else 0."""
    if plain:  # one vectorized pass
        return torch.ops.aten.hardtanh_backward(grad, values, float(low), float(high))  # type: ignore[no-any-return]
    return grad * ((values > low) & (values < high))


def _sum(values: Tensor, axis: int | None) -> Tensor:
    return values.sum() if axis is None else values.sum([other for other in range(values.ndim) if other != axis])


def _product(left: Tensor, right: Tensor, axis: int | None) -> Tensor:
    """Return the sum of ``left * right``, per channel if ``axis`` is given."""
    if axis is not None or not _is_dense(left) or left.stride() != right.stride():
        return _sum(left * right, axis)
    size = (left.numel(),)
    return torch.dot(left.as_strided(size, (1,)), right.as_strided(size, (1,)))


def _is_dense(values: Tensor) -> bool:
    return values.is_contiguous() or (values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last))


class FakeQuantizer(nn.Module):
    """Fake quantization of one tensor with a learned step and, optionally, a learned zero point.

    The step is ``initial * exp(log_step)``: it stays positive, and one learning rate suits all tensors, whatever their
    unit (Jain et al., MLSys 2020, arXiv 1903.08066, section 3).

    Args:
        encoding: the initial encoding.
        learn_zero_point: learn the offset too (LSQ+); the type must be asymmetric.
        largest_step: upper limit of the step (the runtime folds a Relu or Clip before the tensor only if the range
            stays within its bounds).
        by_sample: the first axis counts samples (activations); it does not count towards ``n``.
    """

    initial: Tensor
    zero_point: Tensor

    def __init__(
        self, encoding: Encoding, *, learn_zero_point: bool = False, largest_step: float = inf, by_sample: bool = False
    ) -> None:
        super().__init__()
        self.qtype, self.axis = encoding.qtype, encoding.axis
        self.limits = (encoding.qtype.qmin, encoding.qtype.qmax)
        self.largest_step, self.by_sample = largest_step, by_sample
        self.register_buffer("initial", torch.from_numpy(encoding.scale.copy()))
        self.log_step = nn.Parameter(torch.zeros_like(self.initial))
        zeros = torch.from_numpy(encoding.zero_point.astype(np.float32))
        if learn_zero_point:
            self.zero_point = nn.Parameter(zeros)
        else:
            self.register_buffer("zero_point", zeros)

    def step(self) -> Tensor:
        """The scale, float32, shape () or (channels,)."""
        return self.initial * torch.exp(self.log_step)

    def forward(self, values: Tensor) -> Tensor:
        """Quantize and dequantize ``values``."""
        count = values.numel() / (1 if self.axis is None else values.shape[self.axis])
        scale = 1 / sqrt(count / (len(values) if self.by_sample else 1) * self.limits[1])
        return fake_quantize(values, self.step(), self.zero_point, self.limits, self.axis, scale)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp the step to its upper limit, and the zero point to the integers of the type."""
        if self.largest_step != inf:
            self.log_step.clamp_(max=torch.log(self.largest_step / self.initial))
        if isinstance(self.zero_point, nn.Parameter):
            self.zero_point.clamp_(*self.limits)

    @torch.no_grad()
    def raise_step(self, minimum: Tensor) -> None:
        """Raise the step to ``minimum`` (same shape), with a small margin for rounding."""
        self.log_step.clamp_(min=torch.log(minimum * (1 + 1e-5) / self.initial))

    @torch.no_grad()
    def encoding(self) -> Encoding:
        """Return the learned encoding."""
        zeros = self.zero_point.detach().round().cpu().numpy().astype(np.int32)
        return Encoding(self.step().cpu().numpy(), zeros, self.qtype, self.axis)
