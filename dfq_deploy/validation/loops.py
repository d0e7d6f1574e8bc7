"""Count the turns of Loops that nothing ends before."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import numpy_helper

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.walk import all_graphs

__all__ = ["check_loops"]

TURN_S = 1e-6
"""Seconds that a turn takes at least."""

VALUE_BYTES = 1024
"""Bytes that each output of a turn takes at least: a tensor of its own."""


def check_loops(model: onnx.ModelProto, depth: int, memory: int, seconds: float) -> None:
    """Check that Loops with a stored number of turns, which no condition ends before, can be run within the limits.

    Args:
        depth: how many levels may be nested.
        memory: bytes.

    Raises:
        ModelError: a Loop takes longer, or the outputs of its turns need more memory.
    """
    for graph in all_graphs(model, depth):
        stored = _stored(graph)
        for node in graph.node:
            if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
                _check(node, stored, memory, seconds)


def _check(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], memory: int, seconds: float) -> None:
    turns = _turns(node, stored)
    body = next((attribute.g for attribute in node.attribute if attribute.name == "body"), None)
    if turns is None or body is None or not _is_endless(body):
        return
    outputs = max(0, len(body.output) - 1 - max(0, len(node.input) - 2))
    if turns * TURN_S > seconds or turns * outputs * VALUE_BYTES > memory:
        raise ModelError(
            f"Loop '{node.name or (node.output[0] if node.output else '')}' has {turns:,} turns, which take more than "
            f"{seconds:g} s or {memory:,} bytes; raise --max-seconds or --max-memory if that is meant"
        )


def _turns(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> int | None:
    """The stored number of turns; None where it is computed, or the Loop may not begin."""
    if len(node.input) < 1 or node.input[0] not in stored:
        return None
    begins = stored.get(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    if len(node.input) > 1 and node.input[1] and (begins is None or not _number(begins)):
        return None
    return _number(stored[node.input[0]])


def _number(tensor: onnx.TensorProto) -> int | None:
    """The one number of a tensor; None where it holds another count, or numbers of another kind."""
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor.data_type not in integers or list(tensor.dims) not in ([], [1]) or tensor.external_data:
        return None
    return int(numpy_helper.to_array(tensor).reshape(-1)[0])


def _is_endless(body: onnx.GraphProto) -> bool:
    """True where the body hands its condition on as it is, or states that it holds."""
    if not body.output or len(body.input) < 2:
        return False
    producers = {name: node for node in body.node for name in node.output}
    stored, name, condition = _stored(body), body.output[0].name, body.input[1].name
    for _ in range(len(body.node) + 1):
        if name == condition:
            return True
        if name in stored:
            return bool(_number(stored[name]))
        node = producers.get(name)
        if node is None or node.op_type not in ("Identity", "Cast") or not node.input:
            return False
        name = node.input[0]
    return False


def _stored(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that a graph stores: its initializers and its Constants."""
    return {tensor.name: tensor for tensor in graph.initializer} | dict(_constants(graph))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
