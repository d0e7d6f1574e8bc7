"""Max, average and Lp pooling, windowed and global."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.windows import Window, flat_padding, output_length, window_of, windows
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

MAX: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
MAX_WITH_PLACES: tuple[Callable[..., tuple[Tensor, Tensor]], ...] = (
    F.max_pool1d_with_indices,
    F.max_pool2d_with_indices,
    F.max_pool3d_with_indices,
)
AVERAGE: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _required_window(node: Node) -> Window:
    window = window_of(node)
    if window is None:
        raise node.refuse("kernel_shape is missing; export the model again")
    return window


def _plain(window: Window) -> bool:
    """True if torch's own pooling takes the pads: symmetric, and at most half of the kernel."""
    return window.auto_pad == "NOTSET" and all(
        begin == end and 2 * begin <= kernel for (begin, end), kernel in zip(window.pads, window.kernel, strict=True)
    )


def _extended(window: Window, sizes: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], list[int]]:
    """Pads such that every window lies inside, and the number of windows, on each axis."""
    pads, lengths = [], []
    for size, pair, kernel, stride, dilation in zip(
        sizes, window.padding(sizes), window.kernel, window.strides, window.dilations, strict=True
    ):
        length = output_length((pair[0], size, pair[1]), kernel, stride, dilation, window.ceil)
        needed = (length - 1) * stride + (kernel - 1) * dilation + 1
        pads.append((pair[0], max(needed - size - pair[0], 0)))
        lengths.append(length)
    return tuple(pads), lengths


@register("MaxPool")
def max_pool(node: Node) -> Operator:
    """Maximum of each window, and its place in the flattened input where that is asked for."""
    window = _required_window(node)
    rank, column_major = len(window.kernel), bool(node.integer("storage_order"))
    function, with_places = MAX[rank - 1], MAX_WITH_PLACES[rank - 1]
    if _plain(window) and not node.wants(1):
        padding = [begin for begin, _ in window.pads]

        def plain(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return function(x.float(), window.kernel, window.strides, padding, window.dilations, window.ceil).to(
                    x.dtype
                )
            return function(x, window.kernel, window.strides, padding, window.dilations, window.ceil)

        return plain

    def run(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        sizes = x.shape[2:]
        pads, _ = _extended(window, sizes)
        floating = x if x.is_floating_point() else x.float()
        padded = F.pad(floating, flat_padding(pads), value=-math.inf)
        if not node.wants(1):
            return function(padded, window.kernel, window.strides, 0, window.dilations).to(x.dtype)
        values, places = with_places(padded, window.kernel, window.strides, 0, window.dilations)
        return values.to(x.dtype), _flat_places(places, padded.shape[2:], pads, x.shape, column_major)

    return run


def _flat_places(
    places: Tensor, padded: Sequence[int], pads: tuple[tuple[int, int], ...], shape: Sequence[int], column_major: bool
) -> Tensor:
    """Places in one padded plane as places in the whole flattened input (N, C, ...)."""
    sizes = shape[2:]
    flat, step = torch.zeros_like(places), 1
    coordinates = []
    for size, (begin, _) in zip(reversed(padded), reversed(pads), strict=True):
        coordinates.append(places % size - begin)
        places = places // size
    order = list(zip(reversed(coordinates), sizes, strict=True))
    for coordinate, size in order if column_major else reversed(order):
        flat = flat + coordinate * step
        step *= size
    planes = torch.arange(shape[0] * shape[1], device=flat.device).reshape(shape[0], shape[1], *[1] * len(sizes))
    return flat + planes * step


@register("AveragePool")
def average_pool(node: Node) -> Operator:
    """Mean of each window; padding counts where count_include_pad is set."""
    window, include = _required_window(node), bool(node.integer("count_include_pad"))
    function = AVERAGE[len(window.kernel) - 1]
    if _plain(window) and all(dilation == 1 for dilation in window.dilations):
        padding = [begin for begin, _ in window.pads]
        return lambda x: function(x, window.kernel, window.strides, padding, window.ceil, include)

    def run(x: Tensor) -> Tensor:
        sizes = x.shape[2:]
        pads, lengths = _extended(window, sizes)
        total = windows(F.pad(x, flat_padding(pads)), window, lengths).sum(-1)
        stated = window.padding(sizes)
        counted = x.new_ones((1, 1, *sizes))
        if include:
            counted = F.pad(counted, flat_padding(stated), value=1.0)
        rest = [
            (pad[0] - (said[0] if include else 0), pad[1] - (said[1] if include else 0))
            for pad, said in zip(pads, stated, strict=True)
        ]
        return total / windows(F.pad(counted, flat_padding(tuple(rest))), window, lengths).sum(-1)

    return run


@register("LpPool")
def lp_pool(node: Node) -> Operator:
    """p-norm of each window."""
    window, power = _required_window(node), node.integer("p", 2)

    def run(x: Tensor) -> Tensor:
        pads, lengths = _extended(window, x.shape[2:])
        norms: Tensor = torch.linalg.vector_norm(windows(F.pad(x, flat_padding(pads)), window, lengths), power, dim=-1)
        return norms

    return run


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@register("GlobalAveragePool")
def global_average_pool(node: Node) -> Operator:
    """Mean over the spatial axes."""
    return lambda x: x.mean(_spatial(x), keepdim=True)


@register("GlobalMaxPool")
def global_max_pool(node: Node) -> Operator:
    """Maximum over the spatial axes."""
    return lambda x: x.amax(_spatial(x), keepdim=True)


@register("GlobalLpPool")
def global_lp_pool(node: Node) -> Operator:
    """p-norm over the spatial axes."""
    power = node.integer("p", 2)

    def run(x: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(x, power, dim=_spatial(x), keepdim=True)
        return norms

    return run


@register("MaxUnpool", arguments=(2,))
def max_unpool(node: Node) -> Operator:
    """Values back at the places that MaxPool told; zero elsewhere."""
    window, shape_of = _required_window(node), node.integers_at(2)

    def run(x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
        inferred = [
            (size - 1) * stride + kernel - begin - end
            for size, stride, kernel, (begin, end) in zip(
                x.shape[2:], window.strides, window.kernel, window.pads, strict=True
            )
        ]
        base = (*x.shape[:2], *inferred)
        flat = x.new_zeros(math.prod(base)).scatter(0, places.reshape(-1), x.reshape(-1)).reshape(base)
        wanted = shape_of(shape) if node.has(2) else base
        # places count in the inferred shape; a larger output keeps them in its corner
        return F.pad(flat, [n for a, b in zip(reversed(wanted), reversed(base), strict=True) for n in (0, a - b)])

    return run
