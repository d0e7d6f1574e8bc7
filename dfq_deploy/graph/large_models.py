"""Models over protobuf's 2 GB: the structure, with the weights beside it.

A message ends at 2 GiB. What has to be a message (a session of ONNX Runtime, a file, the checker, an opset conversion)
gets the structure, in which large initializers hold no values, and their tensors by name.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = [
    "LARGEST_MESSAGE",
    "contiguous",
    "fingerprint",
    "fits_in_message",
    "in_memory",
    "message_bytes",
    "skeleton",
    "through_message",
    "weight_bytes",
    "weightless",
]

LARGEST_MESSAGE = 2**31 - 2**24
"""Bytes of initializers that one message holds, with room for its structure."""

SMALLEST_BESIDE = 1024
"""Bytes of the smallest tensor that is kept beside the structure: shapes and axes must stay in it."""

PLAIN = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)
"""Element types that an array holds just as a file does."""

Weights = dict[str, ir.TensorProtocol]


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, those of nested graphs too."""
    stored = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in stored if tensor is not None)


def fits_in_message(model: ir.Model) -> bool:
    """True if one message holds the model with its weights."""
    return weight_bytes(model) <= LARGEST_MESSAGE


def message_bytes(model: ir.Model) -> int:
    """Size of the model in a file, with its weights."""
    if fits_in_message(model):
        return int(ir.to_proto(model).ByteSize())
    proto, beside = skeleton(model)
    return int(proto.ByteSize()) + sum(tensor.nbytes for tensor in beside.values())


def skeleton(model: ir.Model, smallest: int = SMALLEST_BESIDE) -> tuple[onnx.ModelProto, Weights]:
    """The model as a message in which large initializers are marked external, without a place, and those by name.

    Args:
        smallest: bytes of what counts as large.
    """
    copy = model.clone()
    beside: Weights = {}
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in PLAIN and tensor.nbytes >= smallest:
            beside[name] = tensor
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("beside", None, None, tensor.dtype, shape=shape, name=name)
    return ir.to_proto(copy), beside


def weightless(model: ir.Model) -> tuple[onnx.ModelProto, Weights]:
    """The model as a message in which large initializers are inputs, and those by name."""
    proto, beside = skeleton(model)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in beside]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    listed = {value.name for value in proto.graph.input}
    for name, tensor in beside.items():
        if name not in listed:
            shape = tensor.shape.numpy()
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape))
    return proto, beside


def through_message(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """What ``function``, an opset conversion, makes of the model; large initializers go around it."""
    listed = {value.name for value in model.graph.inputs}
    proto, beside = weightless(model)
    made = ir.from_proto(function(proto))
    fed = {value.name: value for value in made.graph.inputs}
    for name, tensor in beside.items():
        value = fed[name]
        if name not in listed:
            made.graph.inputs.remove(value)
        value.const_value = tensor
        made.graph.register_initializer(value)
    return made


def in_memory(model: ir.Model) -> ir.Model:
    """``model``, in place, without references to files: its tensors are arrays, mapped ones where they lie in a file.

    Raises:
        OSError, ValueError: a file is missing, too short, or not beside the model.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            value.const_value = None if value.const_value is None else _as_array(value.const_value)
    inner = (node for function in model.functions.values() for node in function.all_nodes())
    for node in (*model.graph.all_nodes(), *inner):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                node.attributes[name] = ir.AttrTensor(name, _as_array(attribute.as_tensor()))
    return model


def _as_array(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """An array for a tensor in a file, and for one in a message, which is copied whenever it is looked at."""
    held = isinstance(tensor, ir.TensorProtoTensor) and tensor.dtype in PLAIN
    if not held and not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def contiguous(tensor: ir.TensorProtocol) -> NDArray[np.generic]:
    """Its array, copied only where it is not in one piece at an address that fits its type."""
    return np.require(tensor.numpy(), requirements=["C_CONTIGUOUS", "ALIGNED"])


def fingerprint(models: Iterable[ir.Model]) -> str:
    """16 hexadecimal digits of the SHA-256 over structure and weights of all ``models``."""
    digest = sha256()
    for model in models:
        proto, beside = skeleton(model, smallest=0)
        digest.update(proto.SerializeToString(deterministic=True))
        for tensor in beside.values():
            digest.update(contiguous(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
