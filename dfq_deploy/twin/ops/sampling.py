"""Sampling at places that are computed: grids, regions, deformable convolution, blocks."""

import math
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.windows import window_of
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

MODES = {"linear": "bilinear", "cubic": "bicubic"}


@register("GridSample", since=16)
def grid_sample(node: Node) -> Operator:
    """Values at normalized coordinates (Jaderberg 2015), for pictures and volumes."""
    mode = node.text("mode", "bilinear")
    padding, corners = node.text("padding_mode", "zeros"), bool(node.integer("align_corners"))

    def run(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, MODES.get(mode, mode), padding, corners)

    return run


@register("AffineGrid", since=20, arguments=(1,))
def affine_grid(node: Node) -> Operator:
    """Normalized coordinates under an affine map."""
    corners, size_of = bool(node.integer("align_corners")), node.integers_at(1)
    return lambda theta, size: F.affine_grid(theta, list(size_of(size)), align_corners=corners)


@register("RoiAlign", since=10)
def roi_align(node: Node) -> Operator:
    """Each region as a grid of bins (He 2017): mean or maximum of bilinear samples."""
    height, width = node.integer("output_height", 1), node.integer("output_width", 1)
    ratio, scale = node.integer("sampling_ratio"), node.number("spatial_scale", 1.0)
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    half = 0.5 if node.text("coordinate_transformation_mode", default) == "half_pixel" else 0.0
    highest = node.text("mode", "avg") == "max"

    def run(x: Tensor, regions: Tensor, batches: Tensor) -> Tensor:
        bins = []
        for region, batch in zip((regions * scale - half).tolist(), batches.tolist(), strict=True):
            left, top, right, bottom = region
            spans = [bottom - top, right - left] if half else [max(bottom - top, 1.0), max(right - left, 1.0)]
            counts = [ratio or math.ceil(span / n) for span, n in zip(spans, (height, width), strict=True)]
            rows = _bin_places(top, spans[0], height, counts[0]).to(x)
            columns = _bin_places(left, spans[1], width, counts[1]).to(x)
            values = _corner_values(x[batch], rows, columns)
            values = values.amax(0) if highest else values.sum(0)
            values = values.reshape(-1, height, counts[0], width, counts[1])
            bins.append(values.amax((2, 4)) if highest else values.mean((2, 4)))
        return torch.stack(bins) if bins else x.new_zeros(0, x.shape[1], height, width)

    return run


def _bin_places(start: float, span: float, bins: int, samples: int) -> Tensor:
    return start + (torch.arange(bins * samples, dtype=torch.float64) + 0.5) * (span / (bins * samples))


def _corner_values(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The four weighted neighbours (4, C, rows, columns) of each place; zero for places beyond one pixel outside."""
    height, width = x.shape[1:]
    weights, picks = [], []
    for places, size in ((rows, height), (columns, width)):
        inside = ((places >= -1) & (places <= size)).to(x.dtype)
        bounded = places.clamp(0, size - 1)
        low = bounded.floor().long()
        share = bounded - low
        picks.append((low, (low + 1).clamp(max=size - 1)))
        weights.append(((1 - share) * inside, share * inside))
    corners = [
        x[:, picks[0][i]][:, :, picks[1][j]] * weights[0][i].unsqueeze(1) * weights[1][j]
        for i, j in product(range(2), range(2))
    ]
    return torch.stack(corners)


@register("DeformConv", since=19)
def deform_conv(node: Node) -> Operator:
    """Convolution whose taps are moved by offsets and weighted by a mask (Dai 2017, Zhu 2019)."""
    groups, offset_groups = node.integer("group", 1), node.integer("offset_group", 1)

    def run(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        window = window_of(node, tuple(weight.shape[2:]))
        assert window is not None
        (n, c, height, width), (rows, columns) = x.shape, weight.shape[2:]
        out_h, out_w = offset.shape[2:]
        moved = offset.reshape(n * offset_groups, rows * columns, 2, out_h, out_w)
        bases = [
            torch.arange(length, device=x.device) * stride - pads[0]
            for length, stride, pads in zip((out_h, out_w), window.strides, window.pads, strict=True)
        ]
        split = x.reshape(n * offset_groups, c // offset_groups, height, width)
        taps = []
        for tap, (row, column) in enumerate(product(range(rows), range(columns))):
            y = moved[:, tap, 0] + bases[0].unsqueeze(1) + row * window.dilations[0]
            z = moved[:, tap, 1] + bases[1] + column * window.dilations[1]
            grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)
            values = F.grid_sample(split, grid, "bilinear", "zeros", align_corners=False)
            if mask is not None:
                values = values * mask.reshape(n * offset_groups, rows * columns, 1, out_h, out_w)[:, tap]
            taps.append(values.reshape(n, groups, c // groups, out_h, out_w))
        kernel = weight.reshape(groups, -1, c // groups, rows * columns)
        result = torch.einsum("tngchw,goct->ngohw", torch.stack(taps), kernel).flatten(1, 2)
        return result if bias is None else result + bias.reshape(-1, 1, 1)

    return run


@register("Col2Im", since=18, arguments=(1, 2))
def col2im(node: Node) -> Operator:
    """Blocks added back into a picture with any number of spatial axes."""
    image_of, block_of = node.integers_at(1), node.integers_at(2)

    def run(x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
        sizes, kernel = image_of(image_shape), block_of(block_shape)
        window = window_of(node, kernel)
        assert window is not None
        flat = torch.zeros((), dtype=torch.int64)
        padded = [size + sum(pads) for size, pads in zip(sizes, window.pads, strict=True)]
        rank = len(sizes)
        for axis, (total, extent, stride, dilation) in enumerate(
            zip(padded, kernel, window.strides, window.dilations, strict=True)
        ):
            count = (total - (extent - 1) * dilation - 1) // stride + 1
            places = (torch.arange(extent) * dilation).unsqueeze(1) + torch.arange(count) * stride
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = extent, count
            flat = flat * total + places.reshape(shape)
        blocks = x.reshape(x.shape[0], -1, flat.numel())
        spread = flat.reshape(-1).to(x.device).expand(blocks.shape)
        image = x.new_zeros(*blocks.shape[:2], math.prod(padded)).scatter_add(2, spread, blocks)
        image = image.reshape(*blocks.shape[:2], *padded)
        for axis, (size, pads) in enumerate(zip(sizes, window.pads, strict=True)):
            image = image.narrow(2 + axis, pads[0], size)
        return image

    return run


@register("CenterCropPad", since=18, arguments=(1,))
def center_crop_pad(node: Node) -> Operator:
    """To a shape, cut or filled with zeros on both sides."""
    shape_of, axes = node.integers_at(1), node.integers("axes")

    def run(x: Tensor, shape: Tensor) -> Tensor:
        wanted = shape_of(shape)
        for axis, length in zip(axes if axes is not None else range(x.dim()), wanted, strict=True):
            missing = length - x.shape[axis]
            if missing < 0:
                x = x.narrow(axis, -missing // 2, length)
            elif missing > 0:
                before = [0, 0] * (x.dim() - 1 - axis % x.dim())
                x = F.pad(x, [*before, missing // 2, missing - missing // 2])
        return x

    return run
