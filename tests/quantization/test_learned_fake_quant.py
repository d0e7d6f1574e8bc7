"""Fake quantization against the numbers of LSQ worked out by hand, and against the encodings' own arithmetic."""

from math import inf, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer, fake_quantize, round_through

U4 = QuantType(4, signed=False, symmetric=False)
S4 = QuantType(4, signed=True, symmetric=True)


def encoding(scale: float | list[float], zero: int, qtype: QuantType) -> Encoding:
    scales = np.asarray(scale, np.float32)
    return Encoding(scales, np.full(scales.shape, zero, np.int32), qtype, None if scales.ndim == 0 else 0)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_values_are_those_of_the_encoding(bits: int, signed: bool, layout: torch.memory_format) -> None:
    rng = np.random.default_rng(bits)
    values = rng.normal(0, 2, (3, 4, 5, 5)).astype(np.float32)
    values[0, 0, 0, :3] = (0.0, 0.15, -0.45)  # exact halves of the step among them
    qtype = QuantType(bits, signed, symmetric=signed)
    for expected in (
        encoding(0.3, 0 if signed else 2, qtype),
        encoding([0.1, 0.3, 0.7], 0 if signed else 1, qtype),
    ):
        given = torch.from_numpy(values).to(memory_format=layout)
        found = FakeQuantizer(expected)(given)
        np.testing.assert_array_equal(found.detach().numpy(), expected.fake_quantize(values))


def test_gradients_by_hand() -> None:
    # Step 0.5, integers 0 to 15, zero point 3: from -1.5 to 6.
    values = torch.tensor([-2.0, -1.5, -0.6, 0.2, 0.6, 5.9, 6.0, 9.0], requires_grad=True)
    step, zero = torch.tensor(0.5, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    quantized = fake_quantize(values, step, zero, (0, 15), gradient_scale=0.25)
    assert quantized.tolist() == [-1.5, -1.5, -0.5, 0.0, 0.5, 6.0, 6.0, 6.0]
    quantized.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert step.grad is not None
    assert zero.grad is not None
    assert values.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]
    # LSQ: the ends -3 and 12 outside; inside round(v / s) - v / s: -1 + 1.2, 0 - 0.4, 1 - 1.2, 12 - 11.8.
    of_step = 1 * -3 + 2 * -3 + 3 * 0.2 + 4 * -0.4 + 5 * -0.2 + 6 * 0.2 + 7 * 12 + 8 * 12
    assert float(step.grad) == pytest.approx(0.25 * of_step, rel=1e-5)
    assert float(zero.grad) == pytest.approx(0.25 * -0.5 * (1 + 2 + 7 + 8), rel=1e-5)


def test_channels_by_hand() -> None:
    values = torch.tensor([[0.6, -9.0], [0.6, 9.0]], requires_grad=True)
    step = torch.tensor([1.0, 0.5], requires_grad=True)
    quantized = fake_quantize(values, step, torch.zeros(2), (-7, 7), axis=0)
    assert quantized.tolist() == [[1.0, -7.0], [0.5, 3.5]]
    quantized.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert step.grad is not None
    assert values.grad.tolist() == [[1, 0], [1, 0]]
    assert step.grad.tolist() == pytest.approx([(1 - 0.6) - 7, (1 - 1.2) + 7], rel=1e-5)


def test_gradients_are_those_of_torch_where_the_ends_are_far() -> None:
    generator = torch.Generator().manual_seed(0)
    values, outer = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    found = []
    for ours in (True, False):
        given, step = values.clone().requires_grad_(), torch.tensor([0.25], requires_grad=True)
        if ours:
            result = fake_quantize(given, step[0], torch.tensor(100.0), (0, 255), gradient_scale=0.5)
        else:
            result = torch._fake_quantize_learnable_per_tensor_affine(given, step, torch.tensor([100.0]), 0, 255, 0.5)
        result.backward(outer)  # type: ignore[no-untyped-call]
        assert given.grad is not None
        assert step.grad is not None
        found.append((result.detach(), given.grad, step.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_gradient_scale_of_lsq() -> None:
    # Two samples of 6 features, Qp = 15, one value beyond the end: its gradient is 15, times 1 / sqrt(6 * 15) and,
    # for the logarithm of the step, times the step.
    quantizer = FakeQuantizer(encoding(0.5, 0, U4), by_sample=True)
    values = torch.zeros(2, 6)
    values[0, 0] = 100.0
    quantizer(values).sum().backward()
    assert quantizer.log_step.grad is not None
    assert float(quantizer.log_step.grad) == pytest.approx(0.5 * 15 / sqrt(6 * 15), rel=1e-5)
    # A weight of two channels with 3 values each, Qp = 7.
    weights = FakeQuantizer(encoding([0.5, 1.0], 0, S4))
    weights(torch.tensor([[9.0, 0, 0], [0, 0, -9.0]])).sum().backward()
    assert weights.log_step.grad is not None
    assert weights.log_step.grad.tolist() == pytest.approx([0.5 * 7 / sqrt(21), -7 / sqrt(21)], rel=1e-5)


def test_bfloat16_keeps_its_type_and_the_grid() -> None:
    quantizer = FakeQuantizer(encoding(0.25, 0, U4))
    values = torch.tensor([0.1, 0.2, 1.01, 99.0]).bfloat16().requires_grad_()
    found = quantizer(values)
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [0.0, 0.25, 1.0, 3.75]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.bfloat16
    assert values.grad.tolist() == [1, 1, 1, 0]


def test_a_gradient_in_another_layout() -> None:
    values = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    outer = torch.arange(96.0).reshape(2, 3, 4, 4)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        quantizer = FakeQuantizer(encoding(0.1, 4, U4))
        given = values.to(memory_format=layout).detach().requires_grad_()
        quantizer(given).backward(outer)
        assert quantizer.log_step.grad is not None
        found.append((given.grad, quantizer.log_step.grad))
    torch.testing.assert_close(found[0], found[1])


def test_what_has_been_learned() -> None:
    quantizer = FakeQuantizer(encoding(0.5, 3, U4), learn_zero_point=True)
    assert isinstance(quantizer.zero_point, nn.Parameter)
    with torch.no_grad():
        quantizer.log_step.fill_(float(np.log(2)))
        quantizer.zero_point.fill_(4.6)
    learned = quantizer.encoding()
    assert float(learned.scale) == pytest.approx(1.0)
    assert int(learned.zero_point) == 5
    values = np.linspace(-8, 20, 57, dtype=np.float32)
    np.testing.assert_array_equal(quantizer(torch.from_numpy(values)).detach().numpy(), learned.fake_quantize(values))


@pytest.mark.parametrize(("largest", "kept"), [(0.4, 0.4), (inf, 0.5 * np.e)])
def test_the_step_stays_below_the_largest(largest: float, kept: float) -> None:
    quantizer = FakeQuantizer(encoding(0.5, 3, U4), learn_zero_point=True, largest_step=largest)
    with torch.no_grad():
        quantizer.log_step.fill_(1.0)
        quantizer.zero_point.fill_(17.0)
    quantizer.constrain()
    assert float(quantizer.step().detach()) == pytest.approx(kept)
    assert float(quantizer.zero_point.detach()) == 15


def test_rounding_through() -> None:
    values = torch.tensor([0.26, -0.9], requires_grad=True)
    rounded = round_through(values, torch.tensor([0.5, 0.25]))
    assert rounded.tolist() == [0.5, -1.0]
    (rounded * torch.tensor([2.0, 3.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == [2, 3]


def test_large_multiples_are_rounded_as_in_float64() -> None:
    step = torch.tensor(0.1)
    multiples = np.arange(2_000_000, 2_002_000) + 0.45
    values = torch.from_numpy((multiples * float(step)).astype(np.float32))
    exact = np.rint(values.double().numpy() / float(step))
    found = np.rint(round_through(values, step).double().numpy() / float(step))
    assert (torch.round(values / step).double().numpy() != exact).any()  # a float32 quotient errs
    np.testing.assert_array_equal(found, exact)
