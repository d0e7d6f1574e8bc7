"""Resize in all its coordinate modes, and its forerunner Upsample.

Every axis is resized by itself: nearest by picking elements, linear and cubic by a matrix (outputs, inputs). The
forms that exporters write most often go through ``torch.nn.functional.interpolate`` where that computes the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@dataclass(frozen=True)
class _Form:
    """The attributes of one Resize node."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool
    policy: str
    axes: tuple[int, ...] | None
    tables: dict[object, Tensor] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class _Axis:
    """One resized axis: input and output length, scale, and the region of tf_crop_and_resize."""

    size: int
    length: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def _form(node: Node, coordinates: str, rounding: str) -> _Form:
    return _Form(
        mode={"bilinear": "linear", "trilinear": "linear"}.get(text := node.text("mode", "nearest"), text),
        coordinates=node.text("coordinate_transformation_mode", coordinates),
        rounding=node.text("nearest_mode", rounding),
        cubic=node.number("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside")),
        extrapolation=node.number("extrapolation_value"),
        antialias=bool(node.integer("antialias")),
        policy=node.text("keep_aspect_ratio_policy", "stretch"),
        axes=node.integers("axes"),
    )


@register("Upsample")
def upsample_by_attribute(node: Node) -> Operator:
    """Upsample with its scales as attribute."""
    form, scales = _form(node, "asymmetric", "floor"), node.numbers("scales") or ()
    return lambda x: _resize(form, x, scales, (), ())


@register("Upsample", since=9, arguments=(1,))
@register("Resize", since=10, arguments=(1,))
def resize_by_scales(node: Node) -> Operator:
    """By scales, every output pixel from the place it scales back to (opset 10)."""
    form, scales_of = _form(node, "asymmetric", "floor"), _numbers_at(node, 1)
    return lambda x, scales: _resize(form, x, scales_of(scales), (), ())


@register("Resize", since=11, arguments=(1, 2, 3))
def resize(node: Node) -> Operator:
    """By scales or to sizes, with a region for tf_crop_and_resize."""
    form = _form(node, "half_pixel", "round_prefer_floor")
    roi_of, scales_of, sizes_of = _numbers_at(node, 1), _numbers_at(node, 2), node.integers_at(3)

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        lengths = sizes_of(sizes) if sizes is not None else ()
        return _resize(form, x, scales_of(scales) if not lengths else (), lengths, roi_of(roi))

    return run


def _numbers_at(node: Node, index: int) -> Callable[[Tensor | None], tuple[float, ...]]:
    constant = node.constant(index)
    if constant is None:
        return lambda tensor: () if tensor is None else _flat(tensor)
    known = _flat(constant)
    return lambda _: known


def _flat(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values.flatten().tolist())


def _resize(form: _Form, x: Tensor, scales: Sequence[float], sizes: Sequence[int], roi: Sequence[float]) -> Tensor:
    chosen = [axis % x.dim() for axis in form.axes] if form.axes is not None else list(range(x.dim()))
    described = _axes(form, [x.shape[axis] for axis in chosen], scales, sizes, roi)
    plan = {
        axis: one
        for axis, one in zip(chosen, described, strict=True)
        if one.length != one.size or one.scale != 1 or form.coordinates == "tf_crop_and_resize"
    }
    fast = _interpolated(form, x, plan)
    if fast is not None:
        return fast
    outside: list[tuple[int, Tensor]] = []
    y = x
    for axis, one in plan.items():
        y = _along(form, y, axis, one)
        if form.coordinates == "tf_crop_and_resize":
            places = _coordinates(form, one)
            outside.append((axis, ((places < 0) | (places > one.size - 1)).to(x.device)))
    for axis, beyond in outside:
        mask = beyond.reshape(-1, *[1] * (y.dim() - 1 - axis))
        y = torch.where(mask, torch.full_like(y, form.extrapolation), y)
    return y


def _axes(
    form: _Form, shape: Sequence[int], scales: Sequence[float], sizes: Sequence[int], roi: Sequence[float]
) -> list[_Axis]:
    rank = len(shape)
    if sizes:
        factors = [length / size for length, size in zip(sizes, shape, strict=True)]
        lengths = list(sizes)
        if form.policy != "stretch":
            factors = [min(factors) if form.policy == "not_larger" else max(factors)] * rank
            lengths = [math.floor(factor * size + 0.5) for factor, size in zip(factors, shape, strict=True)]
    else:
        factors = list(scales)
        lengths = [math.floor(factor * size) for factor, size in zip(factors, shape, strict=True)]
    starts, ends = (roi[:rank], roi[rank:]) if len(roi) == 2 * rank else ((0.0,) * rank, (1.0,) * rank)
    return [_Axis(*each) for each in zip(shape, lengths, factors, starts, ends, strict=True)]


def _interpolated(form: _Form, x: Tensor, plan: dict[int, _Axis]) -> Tensor | None:
    """The result by torch's own kernel; None where that would compute something else."""
    if x.dim() != 4 or not x.is_floating_point() or not plan or min(plan) < 2 or form.antialias:
        return None
    if any(abs(one.size * one.scale - one.length) > 1e-6 * one.length or one.length < 2 for one in plan.values()):
        return None
    size = [plan[axis].length if axis in plan else x.shape[axis] for axis in (2, 3)]
    if form.mode == "nearest":
        whole = all(one.scale == int(one.scale) for one in plan.values())
        exact = form.coordinates == "asymmetric" and form.rounding == "floor" and whole
        return F.interpolate(x, size=size, mode="nearest") if exact else None
    if form.exclude_outside or form.coordinates not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        return None
    if form.mode == "cubic" and form.cubic != -0.75:
        return None
    mode = "bilinear" if form.mode == "linear" else "bicubic"
    return F.interpolate(x, size=size, mode=mode, align_corners=form.coordinates == "align_corners")


def _coordinates(form: _Form, axis: _Axis) -> Tensor:
    """The place in the input (float64, pixels) of every output element."""
    places = torch.arange(axis.length, dtype=torch.float64)
    exact, last = axis.scale * axis.size, axis.size - 1  # the exact length is not rounded to whole pixels
    result = (places + 0.5) / axis.scale - 0.5
    match form.coordinates:
        case "asymmetric":
            result = places / axis.scale
        case "align_corners":
            result = places * last / (exact - 1) if exact != 1 else places * 0
        case "pytorch_half_pixel" if axis.length == 1:
            result = places * 0
        case "half_pixel_symmetric":
            result = result + axis.size / 2 * (1 - axis.length / exact)
        case "tf_crop_and_resize" if axis.length == 1:
            result = places + 0.5 * (axis.start + axis.end) * last
        case "tf_crop_and_resize":
            result = (axis.start + places * (axis.end - axis.start) / (axis.length - 1)) * last
    return result


def _along(form: _Form, x: Tensor, dim: int, axis: _Axis) -> Tensor:
    key = (axis, x.dtype, x.device)
    table = form.tables.get(key)
    if table is None:
        made = _nearest(form, axis) if form.mode == "nearest" else _matrix(form, axis).to(x.dtype)
        table = form.tables[key] = made.to(x.device)
    if form.mode == "nearest":
        return x.index_select(dim, table)
    return (x.movedim(dim, -1) @ table.t()).movedim(-1, dim)


def _nearest(form: _Form, axis: _Axis) -> Tensor:
    places = _coordinates(form, axis)
    match form.rounding:
        case "round_prefer_floor":
            chosen = torch.ceil(places - 0.5)
        case "round_prefer_ceil":
            chosen = torch.floor(places + 0.5)
        case "ceil":
            chosen = torch.ceil(places)
        case _:
            chosen = torch.floor(places)
    return chosen.long().clamp(0, axis.size - 1)


def _matrix(form: _Form, axis: _Axis) -> Tensor:
    """Weights (outputs, inputs) of linear or cubic interpolation, rows summing to 1; float64."""
    places = _coordinates(form, axis)
    shrink = min(axis.scale, 1.0) if form.antialias else 1.0
    reach = math.ceil((1 if form.mode == "linear" else 2) / shrink)
    taps = torch.floor(places).unsqueeze(1) + torch.arange(1 - reach, reach + 1)
    weights = _kernel(form, (taps - places.unsqueeze(1)) * shrink)
    if form.exclude_outside:
        weights = torch.where((taps >= 0) & (taps < axis.size), weights, torch.zeros_like(weights))
    weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(axis.length, axis.size, dtype=torch.float64)
    return matrix.scatter_add(1, taps.clamp(0, axis.size - 1).long(), weights)


def _kernel(form: _Form, distance: Tensor) -> Tensor:
    """Triangle, or Keys' cubic convolution (1981)."""
    t, a = distance.abs(), form.cubic
    if form.mode == "linear":
        return (1 - t).clamp(min=0)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
