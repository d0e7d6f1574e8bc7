"""Other sizes to measure ranges at, where the sizes of a model are open and one was chosen.

======== ======================================== ==========================================
inputs   sizes, as parts of the chosen one        how samples get them
======== ======================================== ==========================================
pictures a half and one and a half, to 32 pixels  linear interpolation
caches   one step, an eighth and twice            cut at the end; repeated
others   a quarter and twice                      cut at the end; repeated
======== ======================================== ==========================================

Caches are meant that stand beside a token or a frame at a time, since every sequence begins with short ones.

A size counts only where ONNX Runtime runs the model at it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import input_values, main_input_value
from dfq_deploy.graph.main_input import says_cache
from dfq_deploy.samples.samples import Samples

__all__ = ["at_other_sizes", "choose_other_sizes"]

OTHERS = "dfq_deploy.other_sizes"
"""Key in the ``meta`` of an input: the shapes of a sample at the other sizes. Copies of a model keep it."""

PICTURE_PARTS = (0.5, 1.5)
SEQUENCE_PARTS = (0.25, 2.0)
CACHE_PARTS = (0.0, 0.125, 2.0)

PIXELS = 32
"""Sides of pictures are multiples of it where the chosen one is."""

FEW = 8
"""Samples at each other size."""

Shapes = dict[str, ir.Shape]


def choose_other_sizes(
    opened: Sequence[ir.Value],
    axes: Mapping[str, Sequence[int]],
    chosen: Shapes,
    runs: Callable[[Shapes], bool],
    *,
    from_one: bool = False,
) -> dict[str, list[tuple[int, ...]]]:
    """Note, in ``meta`` of the inputs, the other shapes that run.

    Args:
        opened: inputs with open sizes.
        axes: the open axes of each.
        chosen: the shape that each is measured at, with the batch.
        runs: whether the model runs at such shapes.
        from_one: the open inputs are caches that grow by a step at a time, and begin with none.

    Returns:
        the shapes of a sample by input.
    """
    found: dict[str, list[tuple[int, ...]]] = {str(value.name): [] for value in opened}
    pictures = any(_is_picture(value, chosen[str(value.name)]) for value in opened)
    for part in PICTURE_PARTS if pictures else CACHE_PARTS if from_one else SEQUENCE_PARTS:
        shapes = {name: _scaled(shape, axes[name], part, PIXELS if pictures else 1) for name, shape in chosen.items()}
        if all(list(shapes[name]) != list(chosen[name]) for name in shapes) and runs(shapes):
            for name, shape in shapes.items():
                found[name].append(tuple(int(dim) for dim in list(shape)[1:] if isinstance(dim, int)))
    for value in opened:
        value.meta[OTHERS] = found[str(value.name)]
    return found


def _is_picture(value: ir.Value, shape: ir.Shape) -> bool:
    is_of_pixels = value.dtype in (ir.DataType.FLOAT, ir.DataType.UINT8)
    return len(shape) == 4 and is_of_pixels and not says_cache(str(value.name))


def _scaled(shape: ir.Shape, axes: Sequence[int], part: float, whole: int) -> ir.Shape:
    dims = list(shape)
    for axis in axes:
        size = int(dims[axis])  # type: ignore[arg-type]
        step = whole if size % whole == 0 and size > whole else 1
        dims[axis] = max(step, round(size * part / step) * step)
    return ir.Shape(dims)


def at_other_sizes(model: ir.Model, samples: Samples) -> Iterator[Samples]:
    """Some of ``samples`` at each of the other sizes of ``model``; none where its sizes are closed."""
    values = {str(value.name): value for value in input_values(model)}
    main = main_input_value(model)
    sizes = {name: value.meta.get(OTHERS, ()) for name, value in values.items() if _is_open(value)}
    count = max((len(shapes) for shapes in sizes.values()), default=0)
    own = sizes.pop(str(main.name), [tuple(samples.images.shape[1:])] * count)
    few = replace(samples.part(slice(FEW)), labels=None)
    for index, shape in enumerate(own):
        if len(shape) == few.images.ndim - 1:
            extra = {
                name: _resized(rows, sizes[name][index], False) if sizes.get(name) else rows
                for name, rows in few.extra.items()
            }
            yield replace(few, images=_resized(few.images, shape, main.dtype == ir.DataType.FLOAT), extra=extra)


def _is_open(value: ir.Value) -> bool:
    return value.shape is not None and any(not isinstance(dim, int) for dim in list(value.shape)[1:])


def _resized(array: NDArray[Any], shape: Sequence[int], floats: bool) -> NDArray[Any]:
    """``array`` (N, ...) with samples of ``shape``."""
    for axis, (size, wanted) in enumerate(zip(array.shape[1:], shape, strict=True), start=1):
        if size != wanted and floats and array.ndim == 4:
            array = _interpolated(array, axis, wanted)
        elif size != wanted:
            array = np.take(array, np.arange(wanted) % size, axis)
    return array


def _interpolated(array: NDArray[Any], axis: int, wanted: int) -> NDArray[Any]:
    places = np.linspace(0, array.shape[axis] - 1, wanted)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, array.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape([-1 if place == axis else 1 for place in range(array.ndim)])
    mixed: NDArray[Any] = (1 - share) * np.take(array, low, axis) + share * np.take(array, high, axis)
    return mixed
