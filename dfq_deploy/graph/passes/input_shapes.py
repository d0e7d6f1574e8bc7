"""Close open dimensions of inputs, for good or only to measure with."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dfq_deploy.errors import ModelError, did_you_mean
from dfq_deploy.graph.file_shapes import NO_NAMES
from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.inputs import shown_dimension
from dfq_deploy.graph.passes.open_sizes import remember_shapes, restore_output_shapes

__all__ = ["close_inputs", "fix_inputs", "known_dimension"]

Known = dict[str, int]


def fix_inputs(model: ir.Model, shapes: Mapping[str, Sequence[int]], place: str, *, keep: bool = True) -> list[str]:
    """Give inputs of ``model``, in place, the shapes that a caller states.

    Rules: (1) the first dimension is the batch, and stays as the model has it: its number is not looked at, unless the
    model leaves no other one open; (2) all the others become what is stated; one that the model fixes must agree;
    (3) a named dimension is the same wherever the model uses its name, so all inputs that share it are fixed; a name
    that is stated with two sizes stands for two dimensions.

    Args:
        shapes: with the batch, by name; an empty name is that of the only input.
        keep: remember the shapes of the file, which :func:`.open_sizes.reopen` gives back.

    Returns:
        a sentence on each input that was fixed, and on each name of two dimensions.

    Raises:
        ModelError: there is no such input, or the shape contradicts the model.
    """
    fed = {str(value.name): value for value in model.graph.inputs if value.name not in model.graph.initializers}
    sizes: dict[str, set[int]] = {}
    closed: dict[str, ir.Shape] = {}
    shapes = _by_name(shapes, fed, place)
    for name, wanted in shapes.items():
        if name not in fed:
            raise ModelError(f"{place}: no input '{name}' to give a shape to{did_you_mean(name, fed, 'its inputs')}")
        closed[name] = _stated(fed[name], tuple(wanted), sizes, place)
    known = {name: next(iter(found)) for name, found in sizes.items() if len(found) == 1}
    for name, value in fed.items():
        if name not in closed and value.shape:
            closed[name] = ir.Shape([value.shape[0], *(known_dimension(dim, known) for dim in value.shape[1:])])
    before = {name: fed[name].shape for name in shapes}
    close_inputs(model, closed, known, keep=keep)
    return [_sentence(name, before[name], closed[name], keep) for name in shapes] + [
        f"dimension '{name}' is stated with the sizes {', '.join(map(str, sorted(found)))}: taken as different "
        "dimensions of the same name"
        for name, found in sizes.items()
        if len(found) > 1
    ]


def _by_name(
    shapes: Mapping[str, Sequence[int]], fed: Mapping[str, ir.Value], place: str
) -> Mapping[str, Sequence[int]]:
    """``shapes`` with the name of the only input for an empty one."""
    if "" not in shapes:
        return shapes
    if len(fed) != 1:
        shown = ",".join(map(str, shapes[""]))
        names = ", ".join(fed)
        raise ModelError(f"{place}: the model has {len(fed)} inputs ({names}); write --input-shape NAME:{shown}")
    return {name or next(iter(fed)): shape for name, shape in shapes.items()}


def close_inputs(model: ir.Model, shapes: Mapping[str, ir.Shape], known: Mapping[str, int], *, keep: bool) -> None:
    """Set the shapes of inputs, in place, and infer all others from them.

    Args:
        known: name of a dimension -> its size, for outputs that shape inference does not reach.
    """
    if keep:
        remember_shapes(model)
    declared = [value.shape for value in model.graph.outputs]
    for value in model.graph.inputs:
        if str(value.name) in shapes:
            value.shape = shapes[str(value.name)]
    for value in (*(v for node in model.graph.all_nodes() for v in node.outputs), *model.graph.outputs):
        # Inferred once more from the inputs; what was said of the open sizes would contradict it.
        value.shape = None
    infer_shapes(model)
    restore_output_shapes(model, declared, known)


def _stated(value: ir.Value, wanted: tuple[int, ...], sizes: dict[str, set[int]], place: str) -> ir.Shape:
    """The shape of an input with what is stated of it; ``sizes`` gets the size of each name."""
    shown = "unknown" if value.shape is None else f"({', '.join(str(dim) for dim in value.shape)})"
    stated = f"({', '.join(map(str, wanted))})"
    if value.shape is None:
        return ir.Shape([None, *wanted[1:]])
    if len(value.shape) != len(wanted):
        raise ModelError(f"{place}: input '{value.name}' has shape {shown}, and {stated} has another number of axes")
    for index, (dim, size) in enumerate(zip(value.shape, wanted, strict=True)):
        if index and isinstance(dim, int) and dim > 0 and dim != size:
            raise ModelError(
                f"{place}: input '{value.name}' has shape {shown}, which {stated} contradicts; export it again"
            )
        if index and isinstance(dim, ir.SymbolicDim) and dim.value is not None and dim.value not in NO_NAMES:
            sizes.setdefault(dim.value, set()).add(size)
    return ir.Shape([*list(value.shape)[:1], *wanted[1:]])  # a single number has no batch


def _sentence(name: str, before: ir.Shape | None, after: ir.Shape, keep: bool) -> str:
    shown = f"({', '.join(shown_dimension(str(dim)) for dim in after)})"
    if not keep or before is None or list(before)[1:] == list(after)[1:]:
        return f"input '{name}' is fixed to {shown}, as --input-shape says; the quantized model takes nothing else"
    return (
        f"input '{name}' is measured at {shown}, as --input-shape says; the quantized model keeps its open sizes, "
        "unless its target takes static shapes only (--fix-shapes closes them)"
    )


def known_dimension(dim: int | ir.SymbolicDim, known: Mapping[str, int]) -> int | ir.SymbolicDim:
    return known.get(dim.value, dim) if not isinstance(dim, int) and dim.value is not None else dim
