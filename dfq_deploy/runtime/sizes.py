"""Load a float model with sizes to measure at: those that are stated, or the first that run.

A size that a file leaves open is closed to make samples, to measure ranges and to build the twin, and stays open in the
result (:mod:`dfq_deploy.graph.passes.open_sizes`).

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

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.inputs import (
    CHANNELS,
    InputShapes,
    example_shape,
    input_values,
    main_input_value,
    shown_shape,
)
from dfq_deploy.graph.loading import add_notes, load
from dfq_deploy.graph.main_input import says_cache, words_of
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.input_shapes import close_inputs
from dfq_deploy.graph.passes.open_sizes import close_remembered
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.required_sizes import required_sizes
from dfq_deploy.runtime.moved_batch import moved_batch, name_batch, take_one_at_a_time
from dfq_deploy.runtime.other_sizes import choose_other_sizes
from dfq_deploy.runtime.trial import Sizes, Trial

__all__ = ["CHOSEN", "load_sized"]

logger = logging.getLogger(__name__)

CHOSEN = "dfq_deploy.size_chosen"
"""Key of ``meta`` of a model: whether sizes of its main input were chosen, which nothing states."""

PICTURE_CHANNELS = (3, 1)
IMAGE = (224, 256, 320, 640, 512, 384, 416, 299, 128, 96, 64, 32)
FEATURES = (32, 56, 64, 28, 16, 8)
ENLARGED = (64, 96, 128, 224)
SEQUENCE = (64, 128, 512, 100, 32, 16, 8, 1)
OTHER_SIZES = "a branch of an If takes other sizes, and ONNX Runtime loads no such model once the sizes are known"

WAVE = (16000, 16384, 32000, 4096, 512, 256)
VOLUME = (32, 16, 64, 8)
TEXT_LINE = (320, 256, 224, 128)


def load_sized(
    source: ModelSource,
    input_shapes: InputShapes | None = None,
    *,
    fix_shapes: bool = False,
    samples: Mapping[str, Sequence[int]] | None = None,
) -> ir.Model:
    """:func:`dfq_deploy.graph.loading.load`, and every size closed that is open beyond the batch.

    Where the batch is declared open and the graph runs one sample alone, the batch is closed to 1 for good. Where it
    does not stand first in each input (:mod:`dfq_deploy.runtime.moved_batch`), it is 1 to measure with. Notes
    (:func:`dfq_deploy.graph.loading.load_notes`) say what was chosen.

    Args:
        input_shapes: input name -> its shape with the batch; what it says is not chosen.
        fix_shapes: close the sizes for good.
        samples: shape of one sample by input, the main one's name empty: open sizes are theirs, where they fit.

    Raises:
        ModelError: as :func:`dfq_deploy.graph.loading.load`; or no size that was tried runs.
    """
    model = load(source, input_shapes=input_shapes, fix_shapes=fix_shapes)
    trial = Trial.of(model)
    add_notes(model, _closed_by_samples(model, samples or {}, keep=not fix_shapes))
    opened = [value for value in input_values(model) if _open_axes(value)]
    tries = _candidates(model, opened, enlarged=False) if opened else iter(())
    if trial is not None and (batch := moved_batch(model) or name_batch(model, tries, trial)):
        add_notes(model, take_one_at_a_time(model, batch, SEQUENCE[0], keep=not fix_shapes))
    opened = [value for value in input_values(model) if _open_axes(value)]
    main = main_input_value(model)
    if opened:
        shapes = _first_that_runs(model, opened, trial)
        others: Mapping[str, Sequence[tuple[int, ...]]] = {}
        if trial is not None and not fix_shapes:
            axes = {str(value.name): _free_axes(value) for value in opened}
            grows = main not in opened and any(_is_cache(value) for value in opened)
            others = choose_other_sizes(opened, axes, shapes, _running(trial, shapes), from_one=grows)
        said = [
            _sentence(value, shapes[str(value.name)], fix_shapes, others.get(str(value.name), ())) for value in opened
        ]
        close_inputs(model, shapes, _known(opened, shapes), keep=not fix_shapes)
        add_notes(model, said)
        model.meta[CHOSEN] = main in opened
    if trial is not None:
        add_notes(model, _closed_batch(model, trial))
    return model


def _running(trial: Trial, chosen: Sizes) -> Callable[[Sizes], bool]:
    """What tells whether the model runs at other sizes than those that were chosen.

    Where it runs on twos at these, it must at others: a position may be counted from ids that are no padding.
    """
    tried = [(1, 0), (2,)] if not isinstance(trial.run(chosen, 1, (2,)), str) else [(1, 0)]
    return lambda sizes: all(not isinstance(trial.run(sizes, 1, fills), str) for fills in tried)


def _closed_by_samples(model: ir.Model, samples: Mapping[str, Sequence[int]], *, keep: bool) -> list[str]:
    """Close, in place, the open sizes of inputs to those that samples have; a sentence on each."""
    main, said, shapes = main_input_value(model), [], {}
    for value in input_values(model):
        size = samples.get("" if value is main else str(value.name))
        dims = list(value.shape or ())
        if size is None or not _open_axes(value) or len(dims) != len(size) + 1:
            continue
        if all(not isinstance(dim, int) or dim == own for dim, own in zip(dims[1:], size, strict=True)):
            shapes[str(value.name)] = ir.Shape([dims[0], *size])
            kept = "keeps it open, unless its target takes static shapes only" if keep else "takes nothing else"
            shown = f"({', '.join(map(str, size))})"
            said.append(
                f"input '{value.name}' {shown_shape(value)} is measured at {shown}, as the samples are; the quantized "
                f"model {kept}"
            )
    if shapes:
        opened = [value for value in input_values(model) if str(value.name) in shapes]
        close_inputs(model, shapes, _known(opened, shapes), keep=keep)
    return said


def _open_axes(value: ir.Value) -> list[int]:
    """The axes that are open beyond the batch."""
    shape = value.shape or ()
    return [axis for axis, dim in enumerate(shape) if axis and not (isinstance(dim, int) and dim > 0)]


def _free_axes(value: ir.Value) -> list[int]:
    """The axes that are open beyond the batch, and that may have other sizes than the one that is chosen."""
    fixed = {axis for axis, sizes in _size_table(value, enlarged=False).items() if len(sizes) == 1}
    return [axis for axis in _open_axes(value) if axis not in fixed and axis != _channel_axis(value)]


def _first_that_runs(model: ir.Model, opened: Sequence[ir.Value], trial: Trial | None) -> Sizes:
    first, message, has_branches = None, "", any(is_op(node, "If") for node in model.graph)
    for shapes in _candidates(model, opened, enlarged=False):
        first = first or shapes
        found = "" if trial is None else trial.run(shapes, 1)
        if isinstance(found, str) and trial is not None:
            message = message or found
            continue
        if trial is not None and has_branches and not trial.loads(_closed(model, opened, shapes)):
            message = message or OTHER_SIZES
            continue
        if trial is not None and _enlarges(main_input_value(model), shapes, found):
            smaller = next(_candidates(model, opened, enlarged=True))
            return shapes if isinstance(trial.run(smaller, 1), str) else smaller
        return shapes
    named = " ".join(f"--input-shape {example_shape(value)}" for value in opened)
    shape = shown_shape(opened[0])
    raise ModelError(
        f"input '{opened[0].name}': shape {shape} is open beyond the batch, and the model runs at none "
        f"of the sizes that were tried ({message}); state one, e.g. {named}"
    )


def _closed(model: ir.Model, opened: Sequence[ir.Value], shapes: Sizes) -> ir.Model:
    closed = model.clone()
    close_inputs(closed, shapes, _known(opened, shapes), keep=False)
    return closed


def _candidates(model: ir.Model, opened: Sequence[ir.Value], *, enlarged: bool) -> Iterator[Sizes]:
    """Shapes of the inputs that are open, in the order to try them."""
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
    caches = {str(value.name) for value in opened if _is_cache(value) and len(value.shape or ()) == 4}
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
        axis: (required[axis],) if axis in required else _sizes(value, axis, enlarged) for axis in _open_axes(value)
    }
    if channel is not None:  # each size with each number of channels
        count = len(PICTURE_CHANNELS)
        table = {axis: tuple(size for size in sizes for _ in range(count)) for axis, sizes in table.items()}
        table[channel] = PICTURE_CHANNELS * max(len(sizes) // count for sizes in table.values())
    return table


def _channel_axis(value: ir.Value) -> int | None:
    """The axis of the channels of what may be pictures of any number of channels; None for all else."""
    dims = _known_sizes(value)
    picture = len(dims) == 4 and _is_float(value) and not _is_cache(value)
    return 1 if picture and not dims[1] and not dims[3] else None


def _known_sizes(value: ir.Value) -> list[int]:
    """The shape, 0 where it is open and the graph requires nothing."""
    required = required_sizes(value)
    return [dim if isinstance(dim, int) else required.get(axis, 0) for axis, dim in enumerate(value.shape or ())]


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (None, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.UINT8)


def _is_cache(value: ir.Value) -> bool:
    return says_cache(str(value.name))


def _sizes(value: ir.Value, axis: int, enlarged: bool) -> tuple[int, ...]:
    dims = _known_sizes(value)
    if len(dims) > 4:
        return VOLUME
    if len(dims) == 4 and _is_float(value) and not _is_cache(value):
        if enlarged:
            return ENLARGED
        if (dims[1] or dims[3]) and not {dims[1], dims[3]} & set(CHANNELS):
            return FEATURES
        beside = [dim for place, dim in enumerate(dims) if place and place != axis and dim > max(CHANNELS)]
        return IMAGE if not beside else (*(TEXT_LINE if beside[0] <= 64 else beside[:1]), *IMAGE)
    if _is_float(value) and (len(dims) == 2 or dims[1:2] == [1]):
        return WAVE
    return SEQUENCE


def _enlarges(main: ir.Value, shapes: Sizes, outputs: Sequence[NDArray[Any]] | str) -> bool:
    """True where an output is a larger picture than the main input."""
    shape = shapes.get(str(main.name))
    if shape is None or len(shape) != 4:
        return False
    size = [int(dim) for dim in shape if isinstance(dim, int)][-3:]
    larger = [sum(map(int.__gt__, array.shape[1:], size)) for array in outputs if isinstance(array, np.ndarray)]
    return any(count >= 2 for count in larger)


def _known(opened: Sequence[ir.Value], shapes: Sizes) -> dict[str, int]:
    """Name of a dimension -> the size that was chosen."""
    return {
        size_name(dim): int(size)
        for value in opened
        for dim, size in zip(list(value.shape or ())[1:], list(shapes[str(value.name)])[1:], strict=True)
        if size_name(dim) and isinstance(size, int)
    }


def _sentence(value: ir.Value, shape: ir.Shape, fixed: bool, others: Sequence[tuple[int, ...]]) -> str:
    chosen = f"({', '.join(map(str, list(shape)[1:]))})"
    kept = (
        "the quantized model takes nothing else"
        if fixed
        else "the quantized model keeps it open, unless its target takes static shapes only (--fix-shapes closes it)"
    )
    shown = [f"({', '.join(map(str, dims))})" for dims in others]
    more = f", and its ranges at {' and '.join(shown)} too" if shown else ""
    return (
        f"input '{value.name}' {shown_shape(value)} is measured at {chosen}, a size that was chosen (--input-shape "
        f"{value.name}:1,{','.join(map(str, list(shape)[1:]))} states it){more}; {kept}"
    )


def _closed_batch(model: ir.Model, trial: Trial) -> list[str]:
    """Close a batch that the graph does not have, in place; a sentence where there was one."""
    values = [value for value in input_values(model) if value.shape and not isinstance(value.shape[0], int)]
    if main_input_value(model) not in values:
        return []
    shapes = {str(value.name): value.shape for value in input_values(model) if value.shape is not None}
    message = trial.run(shapes, 2)
    if not isinstance(message, str) or isinstance(trial.run(shapes, 1), str):
        return []
    firsts = [value.shape[0] for value in values if value.shape]
    names = {name: 1 for dim in firsts if (name := size_name(dim))}
    logger.debug("the batch is closed to 1; of two samples ONNX Runtime says: %s", message)
    closed = {str(value.name): ir.Shape([1, *list(value.shape or ())[1:]]) for value in values}
    close_inputs(model, closed, names, keep=False)
    close_remembered(model, names, 1)
    return [
        "the model declares an open batch, and ONNX Runtime runs it on one sample at a time alone: its batch is 1 here "
        "and in the quantized model; a constant shape inside it fixes that, so export it again for any other batch"
    ]
