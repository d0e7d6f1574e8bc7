"""Fix the open dimensions of a model's inputs, or open the fixed batch of its graph."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.constants import fold_constants
from dfq_deploy.errors import ModelError
from dfq_deploy.names import Names

__all__ = ["fix_batch", "fix_inputs", "open_batch"]

GRID = 2**20
"""Bytes that a constant made of sizes may have where these are fixed: the anchors of a detector."""


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
                [value.shape[0], *(_known(dim, known) for dim in value.shape[1:])] if value.shape else ()
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


def _known(dim: int | ir.SymbolicDim, known: Mapping[str, int]) -> int | ir.SymbolicDim:
    return known.get(dim.value, dim) if not isinstance(dim, int) and dim.value is not None else dim


def fix_batch(model: ir.Model, batch: int) -> None:
    """Close every dimension of ``model``, in place, for runtimes that take static shapes only.

    Rules: (1) where the first dimension of an input is open, it becomes ``batch``, and so does every other dimension
    of that name; (2) shapes inside the graph are inferred again; (3) a Shape of what is static now is a constant, and
    what is computed from it too.

    Raises:
        ModelError: an input is open beyond the batch.
    """
    fed = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    known: dict[str, int] = {}
    for value in fed:
        first = value.shape[0] if value.shape else None
        if isinstance(first, ir.SymbolicDim) and first.value is not None:
            known[first.value] = batch
    for value in fed:
        if value.shape:
            dims = [_known(dim, known) for dim in value.shape]
            value.shape = ir.Shape([dims[0] if isinstance(dims[0], int) else batch, *dims[1:]])
        if value.shape is None or not value.shape.is_static():
            shown = "unknown" if value.shape is None else f"({', '.join(str(dim) for dim in value.shape)})"
            raise ModelError(
                f"input '{value.name}': shape {shown} is open, and the runtime takes static shapes only; fix it with "
                f"--input-shape {value.name}:1,3,224,224"
            )
    for value in (*(v for node in model.graph.all_nodes() for v in node.outputs), *model.graph.outputs):
        if value.shape is not None and not value.shape.is_static():
            value.shape = None
    infer = ShapeInferencePass(check_type=False, strict_mode=False)
    infer(model)
    # Again until nothing is left: a Reshape to a shape that is known now makes the next one static.
    while [node for node in list(model.graph) if _fold_shape(model.graph, node)]:
        fold_constants(model, leave=("QuantizeLinear", "DequantizeLinear"), room=GRID)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer(model)


def _fold_shape(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace a Shape node whose input is static by an initializer."""
    source = node.inputs[0] if node.op_type == "Shape" and node.domain in ("", "ai.onnx") else None
    if source is None or source.shape is None or not source.shape.is_static() or node.outputs[0].is_graph_output():
        return False
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(source.shape))
    old, name = node.outputs[0], node.outputs[0].name
    dims = np.asarray(source.shape.numpy()[start:end], np.int64)
    tensor = ir.tensor(dims, name=name)
    old.name = None
    kind, shape = ir.TensorType(ir.DataType.INT64), ir.Shape(dims.shape)
    new = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(new)
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    return True


def open_batch(model: ir.Model, batch: int) -> None:
    """Let ``model``, in place, take any batch where its graph was exported for ``batch`` samples.

    Rules: (1) a constant shape of Reshape whose first entry is ``batch``, on a tensor of that first dimension, copies
    that dimension instead; (2) one of Expand broadcasts it. What fixes the batch by other means still does.
    """
    for node in list(model.graph):
        value = node.inputs[1] if node.op_type in ("Reshape", "Expand") else None
        if value is None or value.const_value is None or value.producer() is not None:
            continue
        wanted = value.const_value.numpy().copy()
        source = node.inputs[0].shape if node.inputs[0] is not None else None
        if wanted.size == 0 or wanted[0] != batch or node.attributes.get_int("allowzero", 0):
            continue
        if node.op_type == "Reshape" and (source is None or not len(source) or source[0] != batch):
            continue
        wanted[0] = 0 if node.op_type == "Reshape" else 1
        name = Names(model.graph).fresh(f"{node.name}_open_shape")
        kind, shape = ir.TensorType(ir.DataType.INT64), ir.Shape(wanted.shape)
        opened = ir.Value(name=name, shape=shape, type=kind, const_value=ir.tensor(wanted, name=name))
        model.graph.register_initializer(opened)
        node.replace_input_with(1, opened)
