"""Models whose batch does not stand first: states [layers, batch, size], tokens [time, batch]."""

import onnx_ir as ir

from dfq_deploy.graph.inputs import input_values, main_input_value
from dfq_deploy.graph.passes.input_shapes import NO_NAMES, close_inputs, known_dimension
from dfq_deploy.graph.passes.open_sizes import close_remembered
from dfq_deploy.runtime.trial import Trial

__all__ = ["moved_batch", "take_one_at_a_time", "with_open_batch"]

DECLARED = "dfq_deploy.moved_batch"
"""Key of ``meta`` of a model whose batch is closed to measure with: the shapes of the file, by name."""


def moved_batch(model: ir.Model) -> str:
    """The name of a batch that does not stand first in each input that has it; empty for all other models.

    A name that one input has twice is that of any open size.
    """
    main = main_input_value(model)
    named = {value: [_name_of_dimension(dim) for dim in value.shape or ()] for value in input_values(model)}
    others = [names for value, names in named.items() if value is not main]
    first, second = (*named[main][:2], "", "")[:2]
    firsts = {names[0] for names in others if names}
    batch = second if first and second in firsts - {""} and first not in firsts else first
    twice = any(names.count(batch) > 1 for names in named.values())
    return batch if not twice and any(batch in names[1:] for names in named.values()) else ""


def _name_of_dimension(dim: int | ir.SymbolicDim) -> str:
    return "" if isinstance(dim, int) or dim.value in (None, *NO_NAMES) else str(dim.value)


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
    first = _name_of_dimension(main.shape[0]) if main.shape else ""
    sizes = {batch: 1} if first in ("", batch) else {batch: 1, first: steps}
    shapes = {
        str(value.name): ir.Shape([known_dimension(dim, sizes) for dim in value.shape])
        for value in input_values(model)
        if value.shape is not None
    }
    declared = {str(value.name): value.shape for value in (*input_values(model), *model.graph.outputs)}
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
