"""Models over protobuf's limit of 2 GB: separate the structure from the weights.

A protobuf message is limited to 2 GiB. Where a message is needed (a session of ONNX Runtime, a file, the checker, an
opset conversion), it contains the structure without the values of large initializers, whose tensors are passed by name.
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
"""Largest size in bytes of all initializers in one message; the rest is reserved for its structure."""

SMALLEST_SEPARATE = 1024
"""Size in bytes of the smallest tensor that is separated from the structure: shapes and axes must stay in it."""

ARRAY_TYPES = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)
"""Element types with the same representation in a NumPy array and in a file."""

Weights = dict[str, ir.TensorProtocol]


def weight_bytes(model: ir.Model) -> int:
    """Return the size in bytes of all initializers, those of nested graphs too."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def fits_in_message(model: ir.Model) -> bool:
    """Return True if the model with its weights fits into one message."""
    return weight_bytes(model) <= LARGEST_MESSAGE


def message_bytes(model: ir.Model) -> int:
    """Return the size in bytes of the model in a file, with its weights."""
    if fits_in_message(model):
        return int(ir.to_proto(model).ByteSize())
    proto, weights = skeleton(model)
    return int(proto.ByteSize()) + sum(tensor.nbytes for tensor in weights.values())


def skeleton(model: ir.Model, smallest: int = SMALLEST_SEPARATE) -> tuple[onnx.ModelProto, Weights]:
    """Return the model as a message whose large initializers are external without a location, and their tensors.

    Args:
        smallest: size in bytes from which an initializer is large.

    Returns:
        the message; and name -> tensor of each large initializer.
    """
    copy = model.clone()
    weights: Weights = {}
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in ARRAY_TYPES and tensor.nbytes >= smallest:
            weights[name] = tensor
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("beside", None, None, tensor.dtype, shape=shape, name=name)
    return ir.to_proto(copy), weights


def weightless(model: ir.Model) -> tuple[onnx.ModelProto, Weights]:
    """Return the model as a message whose large initializers are graph inputs, and their tensors by name."""
    proto, weights = skeleton(model)
    small = [tensor for tensor in proto.graph.initializer if tensor.name not in weights]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    listed = {value.name for value in proto.graph.input}
    for name, tensor in weights.items():
        if name not in listed:
            shape = tensor.shape.numpy()
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape))
    return proto, weights


def through_message(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """Apply ``function``, such as an opset conversion, to the model as a message without large initializers."""
    listed = {value.name for value in model.graph.inputs}
    proto, weights = weightless(model)
    converted = ir.from_proto(function(proto))
    inputs = {value.name: value for value in converted.graph.inputs}
    for name, tensor in weights.items():
        value = inputs[name]
        if name not in listed:
            converted.graph.inputs.remove(value)
        value.const_value = tensor
        converted.graph.register_initializer(value)
    return converted


def in_memory(model: ir.Model) -> ir.Model:
    """Replace external tensors of ``model``, in place, by arrays that are mapped to the files; return it.

    Raises:
        OSError, ValueError: a file is missing, too short, or not in the folder of the model.
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
    """Return an array for a tensor in a file or in a message (which would be copied at each access)."""
    is_message_tensor = isinstance(tensor, ir.TensorProtoTensor) and tensor.dtype in ARRAY_TYPES
    if not is_message_tensor and not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def contiguous(tensor: ir.TensorProtocol) -> NDArray[np.generic]:
    """Return the array of a tensor, copied only if it is not contiguous and aligned."""
    return np.require(tensor.numpy(), requirements=["C_CONTIGUOUS", "ALIGNED"])


def fingerprint(models: Iterable[ir.Model]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over structure and weights of all ``models``."""
    digest = sha256()
    for model in models:
        proto, weights = skeleton(model, smallest=0)
        digest.update(proto.SerializeToString(deterministic=True))
        for tensor in weights.values():
            digest.update(contiguous(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
