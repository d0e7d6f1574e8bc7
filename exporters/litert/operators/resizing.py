"""Resize."""

import numpy as np
from numpy.typing import NDArray

from ..orders import CHANNELS_LAST
from ..registry import Unsupported, operator
from ..step import Step

__all__ = ["resize"]

Floats = NDArray[np.float64]


@operator("Resize", kind="same")
def resize(step: Step) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR with the grid of ONNX; nearest ones of other grids by GATHER."""
    source, target = step.input(0).shape, step.shape
    if len(target) != 4 or source[:2] != target[:2]:
        raise Unsupported("it resizes other axes than the last two of four")
    mode = step.text("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise Unsupported(f"its mode is {mode}")
    grids = [_positions(step, axis) for axis in (2, 3)]
    image = step.input(0, CHANNELS_LAST).tensor
    sizes = [(source[axis], target[axis]) for axis in (2, 3)]
    wanted = [
        _chosen(step, grid, size[0]) if mode == "nearest" else grid for grid, size in zip(grids, sizes, strict=True)
    ]
    code, table = (
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
        if mode == "nearest"
        else ("RESIZE_BILINEAR", "ResizeBilinearOptions")
    )
    for align, half in ((False, False), (False, True), (True, False)):
        grid_of = _nearest if mode == "nearest" else _linear
        if all(
            np.allclose(grid_of(*size, align, half), grid, atol=1e-5) for size, grid in zip(sizes, wanted, strict=True)
        ):
            shape = step.writer.numbers("size", list(target[2:]))
            options = {"alignCorners": align, "halfPixelCenters": half}
            step.write(code, [image, shape], CHANNELS_LAST, table, options)
            return
    if mode != "nearest":
        raise Unsupported(f"LiteRT has no such grid ({step.text('coordinate_transformation_mode', 'half_pixel')})")
    rows = step.writer.like(f"{image.name}_rows", image, (image.shape[0], target[2], *image.shape[2:]))
    chosen = [step.writer.numbers("indices", grid.astype(int)) for grid in wanted]
    step.writer.emit("GATHER", [image, chosen[0]], rows, "GatherOptions", {"axis": 1})
    step.write("GATHER", [rows, chosen[1]], CHANNELS_LAST, "GatherOptions", {"axis": 2})


def _positions(step: Step, axis: int) -> Floats:
    """Return the position in the source of each value of the result along ``axis``, by ONNX's definition."""
    size, out = step.input(0).shape[axis], step.shape[axis]
    scales = step.constant(2)
    scale = float(scales[axis]) if scales is not None and scales.size else out / size
    mode = step.text("coordinate_transformation_mode", "half_pixel")
    index = np.arange(out, dtype=np.float64)
    if mode == "asymmetric":
        return index / scale
    if mode == "align_corners":
        return index * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if mode == "pytorch_half_pixel" and out == 1:
        return np.zeros(out)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (index + 0.5) / scale - 0.5
    raise Unsupported(f"its grid is {mode}")


def _chosen(step: Step, positions: Floats, size: int) -> Floats:
    """Return the index that ONNX's nearest mode takes for each position."""
    mode = step.text("nearest_mode", "round_prefer_floor")
    exact = np.round(positions, 9)
    rounded = {
        "round_prefer_floor": np.ceil(exact - 0.5),
        "round_prefer_ceil": np.floor(exact + 0.5),
        "floor": np.floor(exact),
        "ceil": np.ceil(exact),
    }
    return np.clip(rounded[mode], 0, size - 1)


def _scale(size: int, out: int, align: bool) -> float:
    return (size - 1) / (out - 1) if align and out > 1 else size / out


def _nearest(size: int, out: int, align: bool, half: bool) -> Floats:
    """Return the index that RESIZE_NEAREST_NEIGHBOR takes."""
    exact = (np.arange(out) + (0.5 if half else 0.0)) * _scale(size, out, align)
    return np.clip(np.floor(exact + 0.5) if align else np.floor(np.round(exact, 9)), 0, size - 1)


def _linear(size: int, out: int, align: bool, half: bool) -> Floats:
    """Return the position that RESIZE_BILINEAR reads."""
    index, scale = np.arange(out, dtype=np.float64), _scale(size, out, align)
    return (index + 0.5) * scale - 0.5 if half else index * scale
