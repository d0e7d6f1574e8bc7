"""Facts about a model file that need no session: size, quantized or not."""

from pathlib import Path

import google.protobuf.message
import onnx

__all__ = ["is_quantized", "stored_bytes"]

QUANTIZED_OPS = ("QuantizeLinear", "QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "MatMulNBits")
"""How the names of operators begin that only quantized models have."""


def is_quantized(path: Path) -> bool | None:
    """Whether the file holds a quantized operator; None where it is no ONNX file (an .ort file, say)."""
    model = _parsed(path)
    return None if model is None else any(node.op_type.startswith(QUANTIZED_OPS) for node in model.graph.node)


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
