"""Fix open dimensions of inputs (``--input-shape``)."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dfq_deploy.errors import ModelError

__all__ = ["fix_inputs", "known_dimension"]


def fix_inputs(model: ir.Model, shapes: Mapping[str, Sequence[int]], place: str) -> tuple[str, ...]:
    """Give inputs of ``model``, in place, the shapes that a caller states.

    Rules: (1) the first dimension is the batch, and stays as the model has it: its number is not looked at, unless the
    model leaves no other one open; (2) all the others become what is stated; one that the model fixes must agree;
    (3) a named dimension is the same wherever the model uses its name, so all inputs that share it are fixed.

    Returns:
        a sentence on each input that was fixed.

    Raises:
        ModelError: there is no such input, or the shape contradicts the model.
    """
    fed = {str(value.name): value for value in model.graph.inputs if value.name not in model.graph.initializers}
    known: dict[str, int] = {}
    for name, wanted in shapes.items():
        if name not in fed:
            raise ModelError(f"{place}: no input '{name}' to give a shape to; its inputs: {', '.join(fed)}")
        _fix(fed[name], tuple(wanted), known, place)
    for value in fed.values():
        if value.shape is not None:
            value.shape = ir.Shape(
                [value.shape[0], *(known_dimension(dim, known) for dim in value.shape[1:])] if value.shape else ()
            )
    for value in (*(v for node in model.graph.all_nodes() for v in node.outputs), *model.graph.outputs):
        # Inferred once more from the inputs; what was said of the open sizes would contradict it.
        if known or shapes:
            value.shape = None
    return tuple(
        f"input '{name}' is fixed to ({', '.join(map(str, fed[name].shape or ()))}), as --input-shape says; the "
        "quantized model takes nothing else"
        for name in shapes
    )


def _fix(value: ir.Value, wanted: tuple[int, ...], known: dict[str, int], place: str) -> None:
    shown = "unknown" if value.shape is None else f"({', '.join(str(dim) for dim in value.shape)})"
    stated = f"({', '.join(map(str, wanted))})"
    if value.shape is None:
        value.shape = ir.Shape([None, *wanted[1:]])
        return
    if len(value.shape) != len(wanted):
        raise ModelError(f"{place}: input '{value.name}' has shape {shown}, and {stated} has another number of axes")
    for index, (dim, size) in enumerate(zip(value.shape, wanted, strict=True)):
        if index and isinstance(dim, int) and dim > 0 and dim != size:
            raise ModelError(
                f"{place}: input '{value.name}' has shape {shown}, which {stated} contradicts; export it again"
            )
        # PaddlePaddle calls every open dimension "?", which is no name.
        symbol = None if isinstance(dim, int) or not index or dim.value == "?" else dim.value
        if symbol is not None and known.setdefault(symbol, size) != size:
            raise ModelError(f"{place}: '{symbol}' is {size} in {value.name}:{stated}, and {known[symbol]} elsewhere")
    value.shape = ir.Shape([value.shape[0], *wanted[1:]])


def known_dimension(dim: int | ir.SymbolicDim, known: Mapping[str, int]) -> int | ir.SymbolicDim:
    return known.get(dim.value, dim) if not isinstance(dim, int) and dim.value is not None else dim
