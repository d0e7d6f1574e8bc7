"""Compute at load time what depends on constants alone."""

import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import Names, replace_by_constant
from dfq_deploy.graph.operators import QDQ_OPS, RANDOM_OPS, is_op, is_standard
from dfq_deploy.validation.clock import check_time

__all__ = ["fold_constants"]

GROWTH = 8
"""How many times larger than its inputs a folded constant may be: a weight of 4 bits becomes one of 32."""

SMALL = 4096
"""Bytes up to which growth does not matter."""

ROOM_FOR_ALL = 2**26
"""Bytes that all folded constants of a model may take together, beyond eight times what the model stores."""

SLOW = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "DeformConv", "GRU", "GridSample", "LSTM", "MaxPool", "MaxRoiPool", "RNN"}
    | {"AveragePool", "Attention", "DFT", "LpPool", "MelWeightMatrix", "NonMaxSuppression", "QLinearConv", "RoiAlign"}
    | {"STFT"}
)
"""Operators that take long for what they read in ONNX's reference implementation."""

SMALL_WORK = 2**14
"""Bytes of constants up to which they are computed."""

SHRINKING = frozenset({"Compress", "NonZero", "Unique", "Slice", "Reshape", "Squeeze", "TopK", "StringNormalizer"})
"""Operators whose result is bounded by what they read even where its shape cannot be inferred."""

LEFT_ALONE = frozenset({"Expand", "Tile", "ConstantOfShape", "Range", "Pad", "Resize", "Upsample", "EyeLike", "OneHot"})
"""Operators that make much of little; some are computed nevertheless where that is known to fit."""


def fold_constants(model: ir.Model, leave: Collection[str] = (), room: int = SMALL) -> tuple[str, ...]:
    """Replace, in place, nodes of the main graph that read nothing but constants by what they compute.

    Rules: (1) an If whose condition is a constant becomes the branch that it takes; (2) an Identity of an initializer
    is replaced by that initializer, which stays shared; (3) a Concat loses the constants without an entry; (4) a
    CastLike becomes the Cast to a type that is known, which torch's newer exporter writes in front of every bias of
    zeros; (5) every other node of the standard operators whose inputs are all initializers is computed by ONNX's
    reference implementation, unless the result would be more than eight times as large as what it is made from, is
    drawn at random, or is an output of the graph, or unless all results together would take more than eight times what
    the model stores and 64 MB. Sizes are inferred before anything is computed; recurrent layers, convolutions and the
    like are computed on small constants only.

    Args:
        leave: operators that are not computed, such as the DequantizeLinear of a weight that is to stay quantized.
        room: bytes up to which growth does not matter.

    Returns:
        the names of the outputs of the nodes that were replaced, in order.

    Raises:
        ModelError: the reference implementation fails on a node's constants.
    """
    graph = model.graph
    names = Names(graph)
    folded: list[str] = []
    waiting = deque(graph)
    budget = _Budget(model)
    while waiting:
        check_time("folding constants")
        node = _with_known_type(graph, waiting.popleft())
        _leave_out_empty(node)
        constants = _constants(node)
        if is_op(node, "If") and constants is not None:
            waiting.extendleft(reversed(_taken_branch(graph, node, bool(constants[0].numpy().reshape(-1)[0]), names)))
            folded.append(node.outputs[0].name or node.op_type)
        elif constants and not is_op(node, leave) and _is_foldable(node, room):
            done = _alias(graph, node) if is_op(node, "Identity") else _compute(model, node, constants, room, budget)
            folded += [value.name or node.op_type for value in node.outputs] if done else []
    return tuple(folded)


def _with_known_type(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """The Cast in place of a CastLike; any other node as it is."""
    like = node.inputs[1] if is_op(node, "CastLike") else None
    if like is None or like.dtype is None:
        return node
    cast = ir.node("Cast", [node.inputs[0]], {"to": like.dtype}, name=node.name)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [cast], node.outputs, cast.outputs)
    return cast


def _constants(node: ir.Node) -> list[ir.TensorProtocol] | None:
    """The constants that a node reads; None where it reads anything else."""
    found = []
    for value in node.inputs:
        if value is None:
            continue
        if value.producer() is not None or not value.is_initializer() or value.const_value is None:
            return None
        found.append(value.const_value)
    return found


def _leave_out_empty(node: ir.Node) -> None:
    """Rule 3; one input always stays."""
    if not is_op(node, "Concat"):
        return
    full = [value for value in node.inputs if value is None or value.const_value is None or value.const_value.size]
    if full and len(full) < len(node.inputs):
        for index, value in enumerate(full):
            node.replace_input_with(index, value)
        node.resize_inputs(len(full))


def _is_foldable(node: ir.Node, room: int) -> bool:
    if not is_standard(node) or is_op(node, RANDOM_OPS):
        return False
    if is_op(node, LEFT_ALONE) and not _is_short_fill(node, room):
        return False
    if any(value.is_graph_output() for value in node.outputs):
        return False
    return not any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def _is_short_fill(node: ir.Node, room: int) -> bool:
    """True for fills of a few numbers: the zeros that a Pad's sizes are put together from, a detector's grid."""
    numbers = [None if value is None or value.const_value is None else value.const_value for value in node.inputs]
    if is_op(node, "Range") and len(numbers) == 3:
        start, limit, delta = (0.0 if number is None else float(number.numpy()) for number in numbers)
        return delta != 0 and (limit - start) / delta * 8 <= room
    if is_op(node, "ConstantOfShape") and numbers[0] is not None:
        return int(np.prod(numbers[0].numpy())) * 8 <= room
    if is_op(node, ("Expand", "Tile")) and len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
        return int(np.prod(numbers[1].numpy())) * numbers[0].nbytes <= room
    return False


def _alias(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    if source is None:
        return False
    node.outputs[0].replace_all_uses_with(source)
    graph.remove(node, safe=True)
    return True


class _Budget:
    """The bytes that all folding together may take."""

    def __init__(self, model: ir.Model) -> None:
        stored = (value.const_value for value in model.graph.initializers.values())
        self.left = ROOM_FOR_ALL + GROWTH * sum(tensor.nbytes for tensor in stored if tensor is not None)


def _compute(
    model: ir.Model, node: ir.Node, constants: Sequence[ir.TensorProtocol], room: int, budget: _Budget
) -> bool:
    stored = sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in constants}.values())
    allowed = min(budget.left, max(room, GROWTH * stored))
    if is_op(node, SLOW) and stored > SMALL_WORK:
        return False
    proto = _alone(model, node)
    inferred = _inferred_bytes(proto)
    if inferred is None and not is_op(node, SHRINKING):
        return False
    if inferred is not None and inferred > allowed:
        return False
    results = _results(proto, node)
    size = sum(array.nbytes for array in results)
    if size > allowed:
        return False
    budget.left -= size
    graph = model.graph
    for old, array in zip(node.outputs, results, strict=True):
        replace_by_constant(graph, old, array)
    graph.remove(node, safe=True)
    return True


def _alone(model: ir.Model, node: ir.Node) -> onnx.ModelProto:
    """A model of nothing but the node and its constants."""
    values = {value.name: value.const_value for value in node.inputs if value is not None}
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            [ir.to_proto(node)],
            "constants",
            [],
            [onnx.ValueInfoProto(name=value.name) for value in node.outputs],
            [ir.to_proto(_named(tensor, name)) for name, tensor in values.items() if tensor is not None],
        ),
        opset_imports=[onnx.helper.make_opsetid("", _evaluated(node, model.opset_imports.get("", 13)))],
    )


def _inferred_bytes(proto: onnx.ModelProto) -> int | None:
    """The bytes of all outputs; None where onnx cannot tell."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None
    total = 0
    for value in inferred.graph.output:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape") or not kind.elem_type:
            return None
        if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            return None
        itemsize = 8 if kind.elem_type == onnx.TensorProto.STRING else ir.DataType(kind.elem_type).itemsize
        total += math.ceil(math.prod(dim.dim_value for dim in kind.shape.dim) * itemsize)
    return total


def _results(proto: onnx.ModelProto, node: ir.Node) -> list[NDArray[Any]]:
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(array) for array in ReferenceEvaluator(proto).run(None, {})]
    except Exception as problem:  # the reference implementation raises whatever NumPy raises
        raise ModelError(
            f"{node.op_type} '{node.name}': its constants cannot be computed ({type(problem).__name__}: {problem}); "
            "export the model with its constants folded"
        ) from None


def _evaluated(node: ir.Node, opset: int) -> int:
    """The opset to compute it by: onnx's reference implementation knows DequantizeLinear from 19 on, which does the
    same with all that older ones had."""
    return max(opset, 19) if is_op(node, QDQ_OPS) else opset


def _named(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    return tensor if tensor.name == name else ir.tensor(tensor.numpy(), name=name)


def _taken_branch(graph: ir.Graph, node: ir.Node, condition: bool, names: Names) -> list[ir.Node]:
    """Put the nodes of the branch where the If stands; they are returned."""
    branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = names.fresh(name)
        graph.register_initializer(value)
    nodes = list(branch)
    results = list(branch.outputs)
    taken = {value.name for other in graph for value in other.outputs}
    for value in (value for inner in nodes for value in inner.outputs):
        if value.name in taken:
            value.name = names.fresh(value.name or node.op_type)
    branch.outputs.clear()
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for old, result in zip(node.outputs, results, strict=True):
        new, kept = result, old.name
        new.shape, new.type = new.shape or old.shape, new.type or old.type
        if old.is_graph_output():
            # An Identity keeps the name, whatever the branch hands out.
            keep = ir.node("Identity", [result], name=names.fresh(f"{node.name}_output"))
            graph.insert_before(node, [keep])
            new = keep.outputs[0]
            new.shape, new.type = result.shape, result.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        if new is not result or result.producer() in nodes:
            new.name = kept
    graph.remove(node, safe=True)
    return nodes
