"""Facts about a model file that need no session: size, quantized or not."""

from collections.abc import Iterable
from pathlib import Path

import google.protobuf.message
import onnx

from dfq_deploy.graph.operators import RANDOM_OPS, is_op, is_quantized_op

__all__ = ["is_quantized", "quantized_node", "stored_bytes"]


def is_quantized(path: Path) -> bool | None:
    """Whether the file is a quantized model; None where it is no ONNX file (an .ort file, say)."""
    model = _parsed(path)
    return None if model is None else quantized_node(model) is not None


def quantized_node(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """The first node that makes a model a quantized one; None in a float model.

    Weights that are stored as integers behind a DequantizeLinear are no obstacle: they are computed when the model is
    loaded. Activations that are quantized are, and so are operators that read weights of few bits themselves.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes: Iterable[onnx.NodeProto] = model.graph.node
    for node in nodes:
        computed = any(name not in constants for name in node.input if name)
        if not computed and not is_op(node, RANDOM_OPS):
            constants.update(node.output)
        elif is_quantized_op(node):
            return node
    return None


def stored_bytes(path: Path) -> int:
    """Size of the file and of the external data that it names."""
    model = _parsed(path)
    tensors = () if model is None else model.graph.initializer
    places: set[str] = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    files = [path, *(path.parent / place for place in places)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _parsed(path: Path) -> onnx.ModelProto | None:
    try:
        model = onnx.load(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, ValueError, OSError):
        return None
    return model if model.graph.node else None
