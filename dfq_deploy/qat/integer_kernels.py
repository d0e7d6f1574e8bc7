"""Compute the student exactly as integer kernels do.

A student sums floats that represent integers. If such a sum lies between two steps of its output, the result depends on
the order of the additions, and a difference of one step is amplified by later layers. ONNX Runtime's kernels sum
integers exactly, in any order; the sum is multiplied by one float32 factor and rounded half to even. (From the source
of MLAS: QLinearConv, QLinearMatMul, QGemm, QLinearAdd, QLinearGlobalAveragePool.)
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
"""Operators whose kernels sum products of integers -> the channel axis of the output."""
KERNEL_WIDTHS = range(5, 9)
"""Widths whose integers are stored in 8 bits, as the kernels require."""
LARGEST_EXACT = 2**24
"""float32 represents every integer up to this one exactly."""


@torch.no_grad()
def with_integer_kernels(student: QuantizedStudent) -> QuantizedStudent:
    """Return a copy of ``student``, for inference, with exactly the outputs of its file in ONNX Runtime.

    Operators that have no integer kernel there (4 and 16 bits, float outputs) are computed as in ``student``.
    """
    copy = deepcopy(student).requires_grad_(False).eval()
    for step in copy.twin.steps:
        kernel = _kernel(copy, step)
        if kernel is not None:
            copy.twin.replace(step.name, kernel)
    return copy


def _kernel(student: QuantizedStudent, step: Step) -> Operator | None:
    inputs, output = [student.quantizer(name) for name in step.inputs[:2]], _output(student, step)
    quantizers = [quantizer for quantizer in inputs if _fits_kernels(quantizer) and quantizer is not None]
    if len(quantizers) < len(inputs):
        return None
    if is_op(step, WEIGHTED):
        # Only products of matrices have kernels that write float.
        has_kernel = output is not None or not is_op(step, "Conv")
        return (
            _Product(step.operator, quantizers[0], quantizers[1], output, WEIGHTED[step.op_type])
            if has_kernel
            else None
        )
    if output is None:
        return None
    if is_op(step, "Add"):
        return _Sum(quantizers[0], quantizers[1], output)
    return _Mean(step.operator, quantizers[0], output) if is_op(step, "GlobalAveragePool") else None


def _fits_kernels(quantizer: FakeQuantizer | None) -> bool:
    return quantizer is not None and quantizer.qtype.bits in KERNEL_WIDTHS


def _output(student: QuantizedStudent, step: Step) -> FakeQuantizer | None:
    """Return the quantizer of a kernel's output; None if the kernel writes float."""
    name = step.outputs[0]
    readers = [reader for reader in student.twin.steps if name in reader.inputs]
    if student.quantizer(name) is None and len(readers) == 1 and _is_folded(student, readers[0]):
        name = readers[0].outputs[0]
    quantizer = student.quantizer(name)
    return quantizer if _fits_kernels(quantizer) else None


def _is_folded(student: QuantizedStudent, step: Step) -> bool:
    """Return True for a Relu or Clip that its quantizer replaces, so that the file omits it."""
    quantizer = student.quantizer(step.outputs[0])
    return student.is_folded(step) or (is_op(step, "Clip") and quantizer is not None and quantizer.largest_step != inf)


def _integers(values: Tensor, quantizer: FakeQuantizer) -> Tensor:
    """Return the integers of fake-quantized ``values``, minus the zero point."""
    return torch.round(values / quantizer.step().reshape(channel_shape(values.ndim, quantizer.axis)))


def _requantized(sums: Tensor, factor: Tensor, output: FakeQuantizer) -> Tensor:
    """Round ``sums * factor`` to integers of ``output``, and dequantize them."""
    low, high = (limit - float(torch.round(output.zero_point)) for limit in output.limits)
    return torch.round(sums.float() * factor).clamp_(low, high) * output.step()


@dataclass(frozen=True, eq=False)
class _Product:
    """A convolution or matrix product.

    Args:
        operator: the operator of the twin.
        left, right, output: quantizers of the operands and of the result.
        channels: the axis of the result to which the scales of ``right`` belong.
    """

    operator: Operator
    left: FakeQuantizer
    right: FakeQuantizer
    output: FakeQuantizer | None
    channels: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        operands = _integers(x, self.left), _integers(weight, self.right)
        kind = _exact_dtype(*operands, self.right.axis)
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


def _exact_dtype(left: Tensor, right: Tensor, axis: int | None) -> torch.dtype:
    """Return the floating-point type in which all sums of products are exact."""
    others = [other for other in range(right.ndim) if other != axis]
    largest = right.abs().sum(others).max() * left.abs().max()
    return torch.float32 if float(largest) < LARGEST_EXACT else torch.float64


@dataclass(frozen=True, eq=False)
class _Sum:
    """An addition of two tensors: two fused multiply-adds."""

    left: FakeQuantizer
    right: FakeQuantizer
    output: FakeQuantizer

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        step, zero = self.output.step(), torch.round(self.output.zero_point)
        (x_factor, x_zero), (y_factor, y_zero) = (
            (operand.step() / step, torch.round(operand.zero_point)) for operand in (self.left, self.right)
        )
        fixed = zero - (x_factor * x_zero + y_factor * y_zero)
        total = _multiply_add(_integers(y, self.right) + y_zero, y_factor, fixed)
        total = _multiply_add(_integers(x, self.left) + x_zero, x_factor, total)
        low, high = self.output.limits
        return (torch.round(total).clamp_(low, high) - zero) * step


def _multiply_add(values: Tensor, factor: Tensor, addend: Tensor) -> Tensor:
    """Compute ``values * factor + addend`` in float32 with a single rounding."""
    return (values.double() * factor + addend).float()


@dataclass(frozen=True, eq=False)
class _Mean:
    """A mean over all positions of a channel."""

    operator: Operator
    input: FakeQuantizer
    output: FakeQuantizer

    def __call__(self, x: Tensor) -> Tensor:
        mean = self.operator(_integers(x, self.input).double())
        assert isinstance(mean, Tensor)
        places = x[0, 0].numel()
        factor = self.input.step() / (self.output.step() * places)
        return _requantized(torch.round(mean * places), factor, self.output)
