"""Models whose batch does not stand first: states [layers, batch, size], tokens [time, batch]."""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.inputs import input_values, main_input_value
from dfq_deploy.graph.passes.input_shapes import close_inputs, known_dimension
from dfq_deploy.graph.passes.open_sizes import close_remembered
from dfq_deploy.runtime.trial import Sizes, Trial

__all__ = ["moved_batch", "name_batch", "take_one_at_a_time", "with_open_batch"]

DECLARED = "dfq_deploy.moved_batch"
"""Key of ``meta`` of a model whose batch is closed to measure with: the shapes of the file, by name."""

BATCH = "batch"
"""The name of a batch that the file gives none."""


def moved_batch(model: ir.Model) -> str:
    """The name of a batch that does not stand first in each input that has it; empty for all other models.

    A name that one input has twice is that of any open size.
    """
    main = main_input_value(model)
    named = {value: [size_name(dim) for dim in value.shape or ()] for value in input_values(model)}
    others = [names for value, names in named.items() if value is not main]
    first, second = (*named[main][:2], "", "")[:2]
    firsts = {names[0] for names in others if names}
    batch = second if first and second in firsts - {""} and first not in firsts else first
    twice = any(names.count(batch) > 1 for names in named.values())
    return batch if not twice and any(batch in names[1:] for names in named.values()) else ""


def name_batch(model: ir.Model, tries: Iterable[Sizes], trial: Trial) -> str:
    """Call the batch ``batch``, in place, where it has no name and stands behind a fixed dimension, as in [2, ?, 128].

    That such a dimension is the batch is tried: the model runs where it is 2 in all inputs, and not where it is 3 in
    these.

    Args:
        tries: shapes of all inputs with open sizes beyond the first, in the order to try them.

    Returns:
        the name; empty where there is no such batch.
    """
    main, values = main_input_value(model), input_values(model)
    behind = {str(value.name): axis for value in values if (axis := _behind_fixed(value)) is not None}
    named = {name for value in values for dim in value.shape or () if (name := size_name(dim))}
    if main.shape is None or not _is_nameless(main.shape[0]) or not behind or BATCH in named:
        return ""
    if not any(_runs(trial, sizes, behind, 2) and not _runs(trial, sizes, behind, 3) for sizes in tries):
        return ""
    model.meta[DECLARED] = _declared(model)
    for value in values:
        axis = behind.get(str(value.name), 0)
        if value.shape is not None and len(value.shape) > axis and _is_nameless(value.shape[axis]):
            value.shape = ir.Shape([ir.SymbolicDim(BATCH) if k == axis else dim for k, dim in enumerate(value.shape)])
    return BATCH


def _behind_fixed(value: ir.Value) -> int | None:
    """The only open axis of ``value``, if it has no name and does not stand first."""
    axes = [axis for axis, dim in enumerate(value.shape or ()) if not (isinstance(dim, int) and dim > 0)]
    return axes[0] if len(axes) == 1 and axes[0] and value.shape and _is_nameless(value.shape[axes[0]]) else None


def _runs(trial: Trial, sizes: Sizes, behind: Mapping[str, int], size: int) -> bool:
    """Whether the model runs at ``sizes`` with two samples and ``size`` at the axes ``behind``."""
    shapes = dict(sizes)
    for name, axis in behind.items():
        shapes[name] = ir.Shape([size if place == axis else dim for place, dim in enumerate(sizes[name])])
    return not isinstance(trial.run(shapes, 2), str)


def _is_nameless(dim: int | ir.SymbolicDim) -> bool:
    return not (isinstance(dim, int) and dim > 0) and not size_name(dim)


def _declared(model: ir.Model) -> dict[str, ir.Shape | None]:
    return {str(value.name): value.shape for value in (*input_values(model), *model.graph.outputs)}


def take_one_at_a_time(model: ir.Model, batch: str, steps: int, *, keep: bool) -> list[str]:
    """Close, in place, the dimensions called ``batch`` to 1.

    Args:
        steps: the size of a first dimension of the main input that is not the batch but time; it is closed for good,
            and the batch with it, since samples are told apart by the first dimension alone.
        keep: :func:`with_open_batch` opens the batch again in what is written.

    Returns:
        a sentence.
    """
    main = main_input_value(model)
    first = size_name(main.shape[0]) if main.shape else ""
    sizes = {batch: 1} if first in ("", batch) else {batch: 1, first: steps}
    shapes = {
        str(value.name): ir.Shape([known_dimension(dim, sizes) for dim in value.shape])
        for value in input_values(model)
        if value.shape is not None
    }
    declared = model.meta.pop(DECLARED, None) or _declared(model)
    close_inputs(model, shapes, sizes, keep=keep)
    close_remembered(model, sizes, 1)
    if len(sizes) > 1:
        closed = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
        return [
            f"input '{main.name}' has its time first and its batch behind: {closed} here and in the quantized model; "
            "export it with the batch first to keep them open"
        ]
    if keep:
        model.meta[DECLARED] = declared
    return [f"the batch '{batch}' does not stand first in each input: the model is measured on one sample at a time"]


def with_open_batch(model: ir.Model, source: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """``model`` with inputs and outputs as the file of ``source`` declares them, where its batch was closed to measure.

    Only where it runs at two samples then; what is computed from a size may have become constant.

    Args:
        model: as it is written, in float.
        source: what :func:`dfq_deploy.runtime.sizes.load_sized` returned.

    Returns:
        the model, and a sentence where its batch stays closed.
    """
    declared = source.meta.get(DECLARED)
    if declared is None:
        return model, ()
    opened = model.clone()
    for value in (node_value for node in opened.graph.all_nodes() for node_value in node.outputs):
        value.shape = None
    for value in (*opened.graph.inputs, *opened.graph.outputs):
        value.shape = declared.get(str(value.name), value.shape)
    trial = Trial.of(opened)
    shapes = {str(value.name): _at_two(value, source) for value in input_values(opened)}
    found = "it cannot be loaded" if trial is None else trial.run(shapes, 2)
    if isinstance(found, str):
        return model, (f"the batch of the quantized model is 1: it does not run two samples ({found})",)
    return opened, ()


def _at_two(value: ir.Value, source: ir.Model) -> ir.Shape:
    """The sizes that an input was measured at, with two samples."""
    measured = next(other.shape for other in input_values(source) if other.name == value.name)
    pairs = zip(value.shape or (), measured or (), strict=True)
    return ir.Shape([2 if size == 1 and not isinstance(dim, int) else size for dim, size in pairs])
