"""Fake quantization with learned steps and offsets (LSQ, LSQ+).

Fake quantization with learned step sizes (LSQ: Esser et al., ICLR 2020, arXiv 1902.08153) and learned offsets (LSQ+:
Bhalgat et al., CVPR Workshops 2020, arXiv 2004.09576).

With step ``s``, zero point ``z`` and integers ``Qn`` to ``Qp`` a value ``v`` becomes
``v^ = clip(round(v / s), Qn - z, Qp - z) * s``, as QuantizeLinear and DequantizeLinear compute it. The gradients:

============================  =========  ================  =========
where ``v / s`` lies          d v^/d v   d v^/d s          d v^/d z
============================  =========  ================  =========
inside of the ends            1          round(v/s) - v/s  0
at an end ``Q``, or beyond    0          Q - z             -s
============================  =========  ================  =========

Those of ``s`` and ``z`` are multiplied by ``1 / sqrt(n * Qp)`` for ``n`` weights of a channel or ``n`` features of a
sample (LSQ, section 2.2). torch's ``_fake_quantize_learnable_*`` operators do the same with an inside that reaches half
a step farther; on a CPU they are not vectorized, and take 20 times as long.
"""

from math import inf, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from dfq_deploy.encodings import Encoding, channel_shape

__all__ = ["FakeQuantizer", "fake_quantize", "round_through"]


class _FakeQuantize(torch.autograd.Function):
    """:func:`fake_quantize`."""

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
        if _is_plain(values, axis):
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
        through = _masked(grad, floats, low, high, _is_plain(floats, axis))
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
    """``values`` on the grid of ``step``, with the gradients of the table above.

    Args:
        values: floats of any type; the grid is computed in float32, and the result has the type of ``values``.
        step: float32, positive, shape () or (channels,).
        zero_point: float32 of the same shape; it is rounded, and the gradient passes the rounding.
        limits: Qn and Qp, the smallest and the largest integer.
        axis: the channel axis where ``step`` has one.
        gradient_scale: what the gradients of ``step`` and ``zero_point`` are multiplied by.
    """
    result: Tensor = _FakeQuantize.apply(values, step, zero_point, limits, axis, gradient_scale)  # type: ignore[no-untyped-call]
    return result


def round_through(values: Tensor, step: Tensor) -> Tensor:
    """``values`` rounded to multiples of ``step``; the gradient passes to ``values`` alone, unchanged.

    Large multiples are told apart, as by the exporter, in float64: a float32 quotient of 100,000 is off by 0.01.
    """
    size, given = step.detach().double(), values.detach()
    return values + ((torch.round(given.double() / size) * size).float() - given)


def _is_plain(values: Tensor, axis: int | None) -> bool:
    """True where limits are best handed over as plain numbers: on a GPU that would wait for all work before."""
    return axis is None and values.device.type == "cpu"


def _masked(grad: Tensor, values: Tensor, low: Tensor, high: Tensor, plain: bool) -> Tensor:
    """``grad`` where ``low < values < high``, else 0."""
    if plain:  # one vectorized pass
        return torch.ops.aten.hardtanh_backward(grad, values, float(low), float(high))  # type: ignore[no-any-return]
    return grad * ((values > low) & (values < high))


def _sum(values: Tensor, axis: int | None) -> Tensor:
    return values.sum() if axis is None else values.sum([other for other in range(values.ndim) if other != axis])


def _product(left: Tensor, right: Tensor, axis: int | None) -> Tensor:
    """The sum of ``left * right``, for each channel where there are."""
    if axis is not None or not _is_dense(left) or left.stride() != right.stride():
        return _sum(left * right, axis)
    size = (left.numel(),)
    return torch.dot(left.as_strided(size, (1,)), right.as_strided(size, (1,)))


def _is_dense(values: Tensor) -> bool:
    return values.is_contiguous() or (values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last))


class FakeQuantizer(nn.Module):
    """One tensor's encoding, learned.

    The step is ``initial * exp(log_step)``: it stays positive, and one learning rate suits all tensors, whatever their
    unit (Jain et al., MLSys 2020, arXiv 1903.08066, section 3).

    Args:
        encoding: where learning starts.
        learn_zero_point: LSQ+'s offset, which the type must leave open.
        largest_step: the step never grows beyond (where an operator before the tensor bounds its values, and the
            runtime folds that operator away only inside of its bounds).
        by_sample: the first axis counts samples (activations); it adds nothing to ``n``.
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
        """``values`` on the grid."""
        count = values.numel() / (1 if self.axis is None else values.shape[self.axis])
        scale = 1 / sqrt(count / (len(values) if self.by_sample else 1) * self.limits[1])
        return fake_quantize(values, self.step(), self.zero_point, self.limits, self.axis, scale)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the step back below the largest, and the zero point back among the integers."""
        if self.largest_step != inf:
            self.log_step.clamp_(max=torch.log(self.largest_step / self.initial))
        if isinstance(self.zero_point, nn.Parameter):
            self.zero_point.clamp_(*self.limits)

    @torch.no_grad()
    def raise_step(self, least: Tensor) -> None:
        """Bring the step up to ``least``, of its shape, and a hair above, so that rounding never falls short."""
        self.log_step.clamp_(min=torch.log(least * (1 + 1e-5) / self.initial))

    @torch.no_grad()
    def encoding(self) -> Encoding:
        """What has been learned."""
        zeros = self.zero_point.detach().round().cpu().numpy().astype(np.int32)
        return Encoding(self.step().cpu().numpy(), zeros, self.qtype, self.axis)
