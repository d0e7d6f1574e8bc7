"""Sizes to try where the inputs of a model leave them open, in their order.

=========== ==================================================================================================
channels    what the first weight, scale or constant behind the input takes, and features alike
            (:mod:`dfq_deploy.graph.required_sizes`); else 3 or 1 for images
images      224, or whatever of a list runs; 64 where the outputs are larger than the input (super-resolution);
            320 beside a fixed height of up to 64 (lines of text), else as long as the side that is fixed
sequences   64; 16,000 where it is a wave (N, T) or (N, 1, T)
volumes     32
=========== ==================================================================================================

A dimension that is called ``a + b`` is as long as the two together, and ``total_sequence_length`` or the like as long
as the past and the sequence. A cache of four dimensions is no picture: its sizes are those of sequences.
"""

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.inputs import CHANNELS
from dfq_deploy.graph.main_input import says_cache, words_of
from dfq_deploy.graph.required_sizes import required_sizes
from dfq_deploy.runtime.trial import Sizes

__all__ = ["SEQUENCE", "free_axes", "is_cache", "open_axes", "size_candidates"]

PICTURE_CHANNELS = (3, 1)
IMAGE = (224, 256, 320, 640, 512, 384, 416, 299, 128, 96, 64, 32)
FEATURES = (32, 56, 64, 28, 16, 8)
ENLARGED = (64, 96, 128, 224)

SEQUENCE = (64, 128, 512, 100, 32, 16, 8, 1)
"""Lengths of sequences and caches, the first one unless the model does not run at it."""

WAVE = (16000, 16384, 32000, 4096, 512, 256)
VOLUME = (32, 16, 64, 8)
TEXT_LINE = (320, 256, 224, 128)


def open_axes(value: ir.Value) -> list[int]:
    """The axes that are open beyond the batch."""
    shape = value.shape or ()
    return [axis for axis, dim in enumerate(shape) if axis and not (isinstance(dim, int) and dim > 0)]


def free_axes(value: ir.Value) -> list[int]:
    """The axes that are open beyond the batch, and that may have other sizes than the one that is chosen."""
    fixed = {axis for axis, sizes in _size_table(value, enlarged=False).items() if len(sizes) == 1}
    return [axis for axis in open_axes(value) if axis not in fixed and axis != _channel_axis(value)]


def size_candidates(opened: Sequence[ir.Value], *, enlarged: bool) -> Iterator[Sizes]:
    """Shapes of the inputs that are open, in the order to try them.

    Args:
        opened: the inputs, one or more.
        enlarged: those of models whose outputs are larger pictures than the input.
    """
    rows = {str(value.name): _size_table(value, enlarged) for value in opened}
    for step in range(max(len(sizes) for table in rows.values() for sizes in table.values())):
        known: dict[str, int] = {}
        chosen: Sizes = {}
        for value in opened:
            dims = list(value.shape or ())
            for axis, sizes in rows[str(value.name)].items():
                dims[axis] = _named(dims[axis], known, sizes[min(step, len(sizes) - 1)])
            chosen[str(value.name)] = ir.Shape(dims)
        known |= _totals(known) or _masked(opened, known)
        yield {name: _summed(shape, opened, name, known) for name, shape in chosen.items()}


def _named(dim: int | ir.SymbolicDim, known: dict[str, int], size: int) -> int:
    name = size_name(dim)
    return known.setdefault(name, size) if name else size


def _totals(known: Mapping[str, int]) -> dict[str, int]:
    """Sizes of dimensions such as ``total_sequence_length``: a past and a sequence, where one of each is known."""
    words = {name: words_of(name) for name in known}
    totals = [name for name, found in words.items() if "total" in found]
    pasts = [name for name, found in words.items() if "past" in found and name not in totals]
    steps = [name for name, found in words.items() if found & {"seq", "sequence"} and name not in (*totals, *pasts)]
    if len(pasts) != 1 or len(steps) != 1:
        return {}
    return dict.fromkeys(totals, known[pasts[0]] + known[steps[0]])


def _masked(opened: Sequence[ir.Value], known: Mapping[str, int]) -> dict[str, int]:
    """The size of a mask whose dimension no other input has, beside a cache: the past and the sequence."""
    lengths = {
        str(value.name): {name for dim in list(value.shape or ())[1:] if (name := size_name(dim))} for value in opened
    }
    caches = {str(value.name) for value in opened if is_cache(value) and len(value.shape or ()) == 4}
    masks = {name for name in lengths if "mask" in words_of(name)}
    pasts = set().union(*(lengths[name] for name in caches))
    steps = set().union(*(own for name, own in lengths.items() if name not in caches | masks)) - pasts
    totals = set().union(*(lengths[name] for name in masks)) - pasts - steps
    if len(pasts) != 1 or len(steps) != 1 or len(totals) != 1:
        return {}
    return dict.fromkeys(totals, known[next(iter(pasts))] + known[next(iter(steps))])


def _summed(shape: ir.Shape, opened: Sequence[ir.Value], name: str, known: Mapping[str, int]) -> ir.Shape:
    """``shape`` with each dimension that is called ``a + b`` as long as both, and a total as long as its parts."""
    source = next(value for value in opened if value.name == name).shape or ()
    dims = list(shape)
    for axis, dim in enumerate(source):
        parts = [] if isinstance(dim, int) or dim.value is None else [part.strip() for part in dim.value.split("+")]
        if axis and not isinstance(dim, int):
            dims[axis] = known.get(str(dim.value), dims[axis])
        if axis and len(parts) > 1 and all(part.isdigit() or part in known for part in parts):
            dims[axis] = sum(int(part) if part.isdigit() else known[part] for part in parts)
    return ir.Shape(dims)


def _size_table(value: ir.Value, enlarged: bool) -> dict[int, tuple[int, ...]]:
    """Sizes to try for each open axis, step by step; a single one where the graph takes no other."""
    required, channel = required_sizes(value), _channel_axis(value)
    table = {
        axis: (required[axis],) if axis in required else _sizes(value, axis, enlarged) for axis in open_axes(value)
    }
    if channel is not None:  # each size with each number of channels
        count = len(PICTURE_CHANNELS)
        table = {axis: tuple(size for size in sizes for _ in range(count)) for axis, sizes in table.items()}
        table[channel] = PICTURE_CHANNELS * max(len(sizes) // count for sizes in table.values())
    return table


def _channel_axis(value: ir.Value) -> int | None:
    """The axis of the channels of what may be pictures of any number of channels; None for all else."""
    dims = _known_sizes(value)
    picture = len(dims) == 4 and _is_float(value) and not is_cache(value)
    return 1 if picture and not dims[1] and not dims[3] else None


def _known_sizes(value: ir.Value) -> list[int]:
    """The shape, 0 where it is open and the graph requires nothing."""
    required = required_sizes(value)
    return [dim if isinstance(dim, int) else required.get(axis, 0) for axis, dim in enumerate(value.shape or ())]


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (None, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.UINT8)


def is_cache(value: ir.Value) -> bool:
    """True for keys and values of steps before, by the name."""
    return says_cache(str(value.name))


def _sizes(value: ir.Value, axis: int, enlarged: bool) -> tuple[int, ...]:
    dims = _known_sizes(value)
    if len(dims) > 4:
        return VOLUME
    if len(dims) == 4 and _is_float(value) and not is_cache(value):
        if enlarged:
            return ENLARGED
        if (dims[1] or dims[3]) and not {dims[1], dims[3]} & set(CHANNELS):
            return FEATURES
        beside = [dim for place, dim in enumerate(dims) if place and place != axis and dim > max(CHANNELS)]
        return IMAGE if not beside else (*(TEXT_LINE if beside[0] <= 64 else beside[:1]), *IMAGE)
    if _is_float(value) and (len(dims) == 2 or dims[1:2] == [1]):
        return WAVE
    return SEQUENCE
