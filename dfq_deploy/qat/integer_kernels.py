"""Compute the student exactly as integer kernels do.

A student sums floats that stand for integers. Where such a sum lies on the border of two steps of its output, the order
of the additions decides, and a step of difference at one place is amplified behind it. ONNX Runtime's kernels sum the
integers themselves, exactly, whatever the order; one float32 factor then brings the sum to the output's steps, and the
result is rounded to the even neighbour. (Read off MLAS: QLinearConv, QLinearMatMul, QGemm, QLinearAdd,
QLinearGlobalAveragePool.)
"""

from copy import deepcopy
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from dfq_deploy.encodings import channel_shape
from dfq_deploy.graph.operators import is_op
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.twin import Operator, Step

__all__ = ["with_integer_kernels"]

WEIGHTED = {"Conv": 1, "Gemm": -1, "MatMul": -1}
"""Operators whose kernels multiply integers and sum them -> the axis of the output's channels."""
STORED = range(5, 9)
"""Widths whose integers are stored in 8 bits, which is what the kernels take."""
EXACT = 2**24
"""float32 holds every integer up to here."""


@torch.no_grad()
def with_integer_kernels(student: QuantizedStudent) -> QuantizedStudent:
    """A copy of ``student``, for inference, that says what its file will say in ONNX Runtime, to the last step.

    What does not run in integer kernels there (4 and 16 bits, operators whose output stays float) is left as it is.
    """
    copy = deepcopy(student).requires_grad_(False).eval()
    for step in copy.twin.steps:
        kernel = _kernel(copy, step)
        if kernel is not None:
            copy.twin.replace(step.name, kernel)
    return copy


def _kernel(student: QuantizedStudent, step: Step) -> Operator | None:
    inputs, output = [student.quantizer(name) for name in step.inputs[:2]], _output(student, step)
    given = [one for one in inputs if _fits_kernels(one) and one is not None]
    if len(given) < len(inputs):
        return None
    if is_op(step, WEIGHTED):
        # Only products of matrices have kernels that write float.
        writes = output is not None or not is_op(step, "Conv")
        return _Product(step.operator, given[0], given[1], output, WEIGHTED[step.op_type]) if writes else None
    if output is None:
        return None
    if is_op(step, "Add"):
        return _Sum(given[0], given[1], output)
    return _Mean(step.operator, given[0], output) if is_op(step, "GlobalAveragePool") else None


def _fits_kernels(quantizer: FakeQuantizer | None) -> bool:
    return quantizer is not None and quantizer.qtype.bits in STORED


def _output(student: QuantizedStudent, step: Step) -> FakeQuantizer | None:
    """The quantizer that a kernel's result goes to; None where it writes float."""
    name = step.outputs[0]
    readers = [reader for reader in student.twin.steps if name in reader.inputs]
    if student.quantizer(name) is None and len(readers) == 1 and _is_absorbed(student, readers[0]):
        name = readers[0].outputs[0]
    found = student.quantizer(name)
    return found if _fits_kernels(found) else None


def _is_absorbed(student: QuantizedStudent, step: Step) -> bool:
    """True where the quantizer behind a Relu or Clip cuts off all that it does, so that the file does without."""
    found = student.quantizer(step.outputs[0])
    return student.is_left_out(step) or (is_op(step, "Clip") and found is not None and found.largest_step != inf)


def _integers(values: Tensor, quantizer: FakeQuantizer) -> Tensor:
    """The integers that fake-quantized ``values`` stand for, less the zero point."""
    return torch.round(values / quantizer.step().reshape(channel_shape(values.ndim, quantizer.axis)))


def _requantized(sums: Tensor, factor: Tensor, output: FakeQuantizer) -> Tensor:
    """The values that the nearest integers to ``sums * factor`` stand for."""
    low, high = (limit - float(torch.round(output.zero_point)) for limit in output.limits)
    return torch.round(sums.float() * factor).clamp_(low, high) * output.step()


@dataclass(frozen=True, eq=False)
class _Product:
    """A convolution or a product of matrices.

    Args:
        operator: the twin's, which takes any floats.
        left, right, output: the quantizers of its operands and of its result.
        channels: the axis of the result that ``right``'s scales belong to.
    """

    operator: Operator
    left: FakeQuantizer
    right: FakeQuantizer
    output: FakeQuantizer | None
    channels: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        operands = _integers(x, self.left), _integers(weight, self.right)
        kind = _holding(*operands, self.right.axis)
        total = self.operator(*(operand.to(kind) for operand in operands))
        assert isinstance(total, Tensor)
        shape = channel_shape(total.ndim, self.channels)
        scale = self.left.step() * self.right.step()
        sums = torch.round(total).double()
        if bias is not None:
            sums += torch.round(bias.double() / scale.double()).reshape(shape)
        if self.output is None:
            return sums.float() * scale.reshape(shape)
        return _requantized(sums, (scale / self.output.step()).reshape(shape), self.output)


def _holding(left: Tensor, right: Tensor, axis: int | None) -> torch.dtype:
    """The type in which no sum of products can be rounded."""
    others = [other for other in range(right.ndim) if other != axis]
    largest = right.abs().sum(others).max() * left.abs().max()
    return torch.float32 if float(largest) < EXACT else torch.float64


@dataclass(frozen=True, eq=False)
class _Sum:
    """An addition of two tensors: two fused multiply-adds."""

    left: FakeQuantizer
    right: FakeQuantizer
    output: FakeQuantizer

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        step, zero = self.output.step(), torch.round(self.output.zero_point)
        (x_factor, x_zero), (y_factor, y_zero) = (
            (one.step() / step, torch.round(one.zero_point)) for one in (self.left, self.right)
        )
        fixed = zero - (x_factor * x_zero + y_factor * y_zero)
        found = _fused(_integers(y, self.right) + y_zero, y_factor, fixed)
        found = _fused(_integers(x, self.left) + x_zero, x_factor, found)
        low, high = self.output.limits
        return (torch.round(found).clamp_(low, high) - zero) * step


def _fused(values: Tensor, factor: Tensor, addend: Tensor) -> Tensor:
    """``values * factor + addend`` in float32, rounded once."""
    return (values.double() * factor + addend).float()


@dataclass(frozen=True, eq=False)
class _Mean:
    """A mean over all places of a channel."""

    operator: Operator
    given: FakeQuantizer
    output: FakeQuantizer

    def __call__(self, x: Tensor) -> Tensor:
        mean = self.operator(_integers(x, self.given).double())
        assert isinstance(mean, Tensor)
        places = x[0, 0].numel()
        factor = self.given.step() / (self.output.step() * places)
        return _requantized(torch.round(mean * places), factor, self.output)
