"""Properties of a model file that need no session: size, types of its constants, quantized or not."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import google.protobuf.message
import onnx
import onnx_ir as ir

from dfq_deploy.graph.operators import RANDOM_OPS, is_op, is_quantized_op

__all__ = ["bytes_by_type", "is_quantized", "quantized_node", "stored_bytes"]


def is_quantized(path: Path) -> bool | None:
    """Return whether the file is a quantized model; None if it is not an ONNX file (such as an .ort file)."""
    model = _parsed(path)
    return None if model is None else quantized_node(model) is not None


def quantized_node(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the first node of a quantized model that computes on quantized values; None for a float model.

    A DequantizeLinear of constant weights does not count: it is folded when the model is loaded. Quantized activations
    do, and so do operators that read weights of few bits themselves.
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
    """Return the size in bytes of the file and its external data."""
    model = _parsed(path)
    tensors = () if model is None else model.graph.initializer
    places: set[str] = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    files = [path, *(path.parent / place for place in places)]
    return sum(file.stat().st_size for file in files if file.is_file())


def bytes_by_type(model: Path | ir.Model) -> dict[str, int]:
    """Bytes of the constants of the main graph by element type (``int8``, ``float32``), the largest first.

    Empty for a file that is no ONNX file.
    """
    counts: Counter[str] = Counter()
    if isinstance(model, ir.Model):
        for value in model.graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype != ir.DataType.STRING:
                counts[_type_name(value.const_value.dtype)] += value.const_value.nbytes
    else:
        for tensor in () if (parsed := _parsed(model)) is None else parsed.graph.initializer:
            dtype = ir.DataType(tensor.data_type)
            if dtype == ir.DataType.STRING:
                continue
            counts[_type_name(dtype)] += math.ceil(math.prod(tensor.dims) * dtype.bitwidth / 8)
    return dict(counts.most_common())


def _type_name(dtype: ir.DataType) -> str:
    return {"float": "float32", "double": "float64"}.get(name := dtype.name.lower(), name)


def _parsed(path: Path) -> onnx.ModelProto | None:
    try:
        model = onnx.load(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, ValueError, OSError):
        return None
    return model if model.graph.node else None
