"""Spectra: discrete and short-time Fourier transform, window functions, mel filters."""

import math

import torch
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

WINDOWS = {
    "HannWindow": (0.5, -0.5, 0.0),
    "HammingWindow": (25 / 46, -21 / 46, 0.0),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}
"""Coefficients of cos 0, cos x and cos 2x."""


@register(*WINDOWS, since=17, arguments=(0,))
def window(node: Node) -> Operator:
    """A window of cosines, periodic or symmetric."""
    constant, first, second = WINDOWS[node.op_type]
    periodic, dtype = node.integer("periodic", 1), dtype_of(node.integer("output_datatype", 1), str(node))
    size_of = node.integer_at(0)

    def run(size: Tensor) -> Tensor:
        count = size_of(size)
        angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / (count if periodic else max(count - 1, 1)))
        return (constant + first * torch.cos(angle) + second * torch.cos(2 * angle)).to(dtype)

    return run


@register("DFT", since=17, arguments=(1,))
def dft_by_attribute(node: Node) -> Operator:
    """Discrete Fourier transform with its axis as attribute."""
    axis, length_of = node.integer("axis", 1), node.integer_at(1)
    return lambda x, length=None: _transform(node, x, None if length is None else length_of(length), axis)


@register("DFT", since=20, arguments=(1, 2))
def dft(node: Node) -> Operator:
    """Discrete Fourier transform; complex numbers as a last axis of two."""
    length_of, axis_of, given = node.integer_at(1), node.integer_at(2), node.has(2)

    def run(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        return _transform(node, x, None if length is None else length_of(length), axis_of(axis) if given else -2)

    return run


def _transform(node: Node, x: Tensor, length: int | None, axis: int) -> Tensor:
    inverse, onesided = bool(node.integer("inverse")), bool(node.integer("onesided"))
    dim = axis % x.dim()
    if inverse and onesided:
        signal: Tensor = torch.fft.irfft(torch.view_as_complex(x.contiguous()), length, dim)
        return signal.unsqueeze(-1)
    numbers = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    result = torch.fft.ifft(numbers, length, dim) if inverse else torch.fft.fft(numbers, length, dim)
    if onesided:
        result = result.narrow(dim, 0, result.shape[dim] // 2 + 1)
    return torch.view_as_real(result)


@register("STFT", since=17, arguments=(1, 3))
def stft(node: Node) -> Operator:
    """Fourier transform of overlapping windowed frames: (N, frames, bins, 2)."""
    onesided, step_of, length_of = bool(node.integer("onesided", 1)), node.integer_at(1), node.integer_at(3)

    def run(x: Tensor, step: Tensor, weights: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        size = length_of(length) if length is not None else weights.shape[0] if weights is not None else x.shape[1]
        signal = x if x.dim() == 2 else torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
        frames = signal.unfold(1, size, step_of(step))
        frames = frames if weights is None else frames * weights
        spectrum = torch.fft.fft(frames, dim=-1)
        return torch.view_as_real(spectrum[..., : size // 2 + 1] if onesided else spectrum)

    return run


@register("MelWeightMatrix", since=17, arguments=(0, 1, 2, 3, 4))
def mel_weight_matrix(node: Node) -> Operator:
    """Triangular filters on the mel scale (Stevens 1937): (spectrum bins, mel bins)."""
    dtype = dtype_of(node.integer("output_datatype", 1), str(node))

    def run(bins: Tensor, length: Tensor, rate: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        count, size = int(bins.item()), int(length.item())
        mels = [2595 * math.log10(1 + float(edge.item()) / 700) for edge in (lowest, highest)]
        edges = mels[0] + torch.arange(count + 2, dtype=torch.float64) * (mels[1] - mels[0]) / (count + 2)
        places = torch.floor((size + 1) * 700 * (10 ** (edges / 2595) - 1) / int(rate.item()))
        matrix = torch.zeros(size // 2 + 1, count, dtype=torch.float64)
        for column in range(count):
            low, middle, high = (int(place) for place in places[column : column + 3])
            if middle == low:
                matrix[middle, column] = 1
            else:
                matrix[low : middle + 1, column] = torch.arange(middle - low + 1) / (middle - low)
            if high > middle:
                matrix[middle:high, column] = (high - torch.arange(middle, high)) / (high - middle)
        return matrix.to(dtype)

    return run
