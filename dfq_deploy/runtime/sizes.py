"""Load a float model with sizes to measure at: those that are stated, or the first that run.

A size that a file leaves open is closed to make samples, to measure ranges and to build the twin, and stays open in the
result (:mod:`dfq_deploy.graph.passes.open_sizes`). :mod:`dfq_deploy.runtime.size_candidates` says what is tried.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.index_tables import table_of
from dfq_deploy.graph.inputs import InputShapes, example_shape, input_values, main_input_value, shown_shape
from dfq_deploy.graph.loading import add_notes, load
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.input_shapes import close_inputs
from dfq_deploy.graph.passes.open_sizes import close_remembered
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.runtime.moved_batch import moved_batch, name_batch, take_one_at_a_time
from dfq_deploy.runtime.other_sizes import choose_other_sizes
from dfq_deploy.runtime.size_candidates import SEQUENCE, free_axes, is_cache, open_axes, size_candidates
from dfq_deploy.runtime.trial import Sizes, Trial

__all__ = ["CHOSEN", "load_sized"]

logger = logging.getLogger(__name__)

CHOSEN = "dfq_deploy.size_chosen"
"""Key of ``meta`` of a model: whether sizes of its main input were chosen, which nothing states."""

INDICES = (ir.DataType.INT32, ir.DataType.INT64)

OTHER_SIZES = "a branch of an If takes other sizes, and ONNX Runtime loads no such model once the sizes are known"


def load_sized(
    source: ModelSource,
    input_shapes: InputShapes | None = None,
    *,
    fix_shapes: bool = False,
    samples: Mapping[str, Sequence[int]] | None = None,
) -> ir.Model:
    """:func:`dfq_deploy.graph.loading.load`, and every size closed that is open beyond the batch.

    Where the batch is declared open and the graph runs one sample alone, the batch is closed to 1 for good. Where it
    does not stand first in each input (:mod:`dfq_deploy.runtime.moved_batch`), it is 1 to measure with. A model that
    has no batch gets one of 1 (:mod:`dfq_deploy.graph.batch_axis`), which no file has. Notes
    (:func:`dfq_deploy.graph.loading.load_notes`) say what was chosen.

    Args:
        input_shapes: input name -> its shape with the batch; what it says is not chosen.
        fix_shapes: close the sizes for good.
        samples: shape of one sample by input, the main one's name empty: open sizes are theirs, where they fit.

    Raises:
        ModelError: as :func:`dfq_deploy.graph.loading.load`; or no size that was tried runs.
    """
    model = load(source, input_shapes=input_shapes, fix_shapes=fix_shapes, batch_axis=True)
    trial = Trial.of(model)
    add_notes(model, _closed_by_samples(model, samples or {}, keep=not fix_shapes))
    opened = [value for value in input_values(model) if open_axes(value)]
    tries = size_candidates(opened, enlarged=False) if opened else iter(())
    if trial is not None and (batch := moved_batch(model) or name_batch(model, tries, trial)):
        add_notes(model, take_one_at_a_time(model, batch, SEQUENCE[0], keep=not fix_shapes))
    opened = [value for value in input_values(model) if open_axes(value)]
    main = main_input_value(model)
    if opened:
        shapes = _first_that_runs(model, opened, trial)
        others: Mapping[str, Sequence[tuple[int, ...]]] = {}
        if trial is not None and not fix_shapes:
            axes = {str(value.name): free_axes(value) for value in opened}
            last = _last_indices(model, opened, shapes)
            grows = main not in opened and any(is_cache(value) for value in opened)
            others = choose_other_sizes(opened, axes, shapes, _running(trial, shapes, last), from_one=grows)
        said = [
            _sentence(value, shapes[str(value.name)], fix_shapes, others.get(str(value.name), ())) for value in opened
        ]
        close_inputs(model, shapes, _known(opened, shapes), keep=not fix_shapes)
        add_notes(model, said)
        model.meta[CHOSEN] = main in opened
    if trial is not None:
        add_notes(model, _closed_batch(model, trial))
    return model


def _running(trial: Trial, chosen: Sizes, last: Mapping[str, int]) -> Callable[[Sizes], bool]:
    """What tells whether the model runs at other sizes than those that were chosen.

    Where it runs on twos at these, it must at others: a position may be counted from ids that are no padding.

    Args:
        last: the last index of each input that indexes an axis, which samples at other sizes keep.
    """
    tried = [(1, 0), (2,)] if not isinstance(trial.run(chosen, 1, (2,)), str) else [(1, 0)]

    def runs(sizes: Sizes) -> bool:
        answers = [trial.run(sizes, 1, fills) for fills in tried] + [trial.run(sizes, 1, own=last)]
        return not any(isinstance(answer, str) for answer in answers)

    return runs


def _last_indices(model: ir.Model, opened: Sequence[ir.Value], shapes: Sizes) -> dict[str, int]:
    """Name of each input that indexes an axis -> the last index at the sizes ``shapes``."""
    closed = _closed(model, opened, shapes)
    integers = [str(value.name) for value in input_values(closed) if value.dtype in INDICES]
    return {name: table[1] - 1 for name in integers if (table := table_of(closed, name)) is not None}


def _closed_by_samples(model: ir.Model, samples: Mapping[str, Sequence[int]], *, keep: bool) -> list[str]:
    """Close, in place, the open sizes of inputs to those that samples have; a sentence on each."""
    main, said, shapes = main_input_value(model), [], {}
    for value in input_values(model):
        size = samples.get("" if value is main else str(value.name))
        dims = list(value.shape or ())
        if size is None or not open_axes(value) or len(dims) != len(size) + 1:
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


def _first_that_runs(model: ir.Model, opened: Sequence[ir.Value], trial: Trial | None) -> Sizes:
    first, message, has_branches = None, "", any(is_op(node, "If") for node in model.graph)
    for shapes in size_candidates(opened, enlarged=False):
        first = first or shapes
        found = "" if trial is None else trial.run(shapes, 1)
        if isinstance(found, str) and trial is not None:
            message = message or found
            continue
        if trial is not None and has_branches and not trial.loads(_closed(model, opened, shapes)):
            message = message or OTHER_SIZES
            continue
        if trial is not None and _enlarges(main_input_value(model), shapes, found):
            smaller = next(size_candidates(opened, enlarged=True))
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
