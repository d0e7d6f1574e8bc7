"""Serialize with TensorFlow Lite's flatbuffer schema; the same input gives the same bytes."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.runtime.litert import schema
from dfq_deploy.runtime.litert.interpreter import AXES

from .tensors import Graph, Operation, Port, Tensor

__all__ = ["SIGNATURE", "serialized"]

FILE_IDENTIFIER = b"TFL3"

SCHEMA_VERSION = 3

ALIGNMENT = 16
"""Of constants in the file, which a runtime reads in place."""

SIGNATURE = "serving_default"
"""The key of the signature, as TensorFlow's converter names it."""

TYPES = {
    **{"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32", "int64": "INT64"},
    **{"bool": "BOOL", "float64": "FLOAT64", "float16": "FLOAT16", "uint32": "UINT32"},
}

VERSIONS: dict[str, tuple[int, int, int]] = {
    **dict.fromkeys(("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "GATHER", "LOGISTIC", "MAX_POOL_2D"), (1, 2, 3)),
    **dict.fromkeys(("MEAN", "MUL", "PAD", "PADV2", "RELU", "RELU6", "SLICE", "SOFTMAX", "SPLIT"), (1, 2, 3)),
    **dict.fromkeys(("STRIDED_SLICE", "SUB", "TANH", "LEAKY_RELU", "MAXIMUM", "MINIMUM"), (1, 2, 2)),
    **dict.fromkeys(("TRANSPOSE", "SUM", "REDUCE_MAX", "REDUCE_MIN"), (1, 2, 3)),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), (2, 3, 4)),
    **{"FULLY_CONNECTED": (5, 5, 7), "BATCH_MATMUL": (1, 2, 3), "TRANSPOSE_CONV": (3, 3, 4)},
    **{"RESIZE_BILINEAR": (3, 3, 4), "RESIZE_NEAREST_NEIGHBOR": (3, 3, 4), "QUANTIZE": (1, 2, 3)},
    **{"DEQUANTIZE": (1, 2, 3), "RESHAPE": (1, 1, 1), "GELU": (1, 2, 2), "SPLIT_V": (1, 2, 2)},
    "BROADCAST_TO": (2, 3, 3),
}
"""Version of an operation for floats, 8 and 16 bits (TensorFlow Lite, tools/versioning); 1 if not listed."""


def serialized(graph: Graph, description: str, metadata: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """Return the content of the .tflite file.

    Args:
        description: free text in the file.
        metadata: further buffers by name, beside the one that says how the axes lie (:data:`AXES`).

    Raises:
        PluginError: LiteRT's package is not installed.
    """
    import flatbuffers

    return _Serializer(graph, description, metadata).content(flatbuffers.Builder(1024))


class _Serializer:
    def __init__(self, graph: Graph, description: str, metadata: Sequence[tuple[str, bytes]]) -> None:
        self.schema = schema()
        self.graph, self.description = graph, description
        self.metadata = [(AXES, json.dumps(_axes(graph)).encode()), *metadata]
        self.index = {tensor: number for number, tensor in enumerate(graph.tensors)}
        self.buffers: list[Any] = [_buffer_class()()]  # the first one is empty by convention
        self.codes: dict[tuple[str, int], int] = {}

    def content(self, builder: Any) -> bytes:
        tfl = self.schema
        model = tfl.ModelT()
        model.version, model.description = SCHEMA_VERSION, self.description
        subgraph = tfl.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = [self._tensor(tensor) for tensor in self.graph.tensors]
        subgraph.operators = [self._operator(operation) for operation in self.graph.operations]
        subgraph.inputs = [self.index[port.tensor] for port in self.graph.inputs]
        subgraph.outputs = [self.index[port.tensor] for port in self.graph.outputs]
        model.subgraphs = [subgraph]
        model.operatorCodes = [self._code(name, version) for name, version in self.codes]
        model.signatureDefs = [self._signature()]
        model.metadata = [self._metadata(name, content) for name, content in self.metadata]
        model.buffers = self.buffers
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: NDArray[np.uint8]) -> int:
        made = _buffer_class()()
        made.data = data
        self.buffers.append(made)
        return len(self.buffers) - 1

    def _tensor(self, tensor: Tensor) -> Any:
        made = self.schema.TensorT()
        made.name, made.shape = tensor.name, list(tensor.shape)
        made.type = getattr(self.schema.TensorType, TYPES[str(tensor.dtype)])
        made.hasRank = True
        if tensor.data is not None:
            made.buffer = self._buffer(np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8))
        if tensor.encoding is not None:
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale = np.ravel(tensor.encoding.scale).astype(np.float32)
            made.quantization.zeroPoint = np.ravel(tensor.encoding.zero_point).astype(np.int64)
            made.quantization.quantizedDimension = tensor.encoding.axis or 0
        return made

    def _operator(self, operation: Operation) -> Any:
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.setdefault((operation.code, _version(operation)), len(self.codes))
        made.inputs = [-1 if tensor is None else self.index[tensor] for tensor in operation.inputs]
        made.outputs = [self.index[tensor] for tensor in operation.outputs]
        if operation.options is not None:
            table, values = operation.options
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, table)
            made.builtinOptions = getattr(self.schema, f"{table}T")()
            for name, value in values.items():
                if not hasattr(made.builtinOptions, name):
                    raise ValueError(f"{table} has no field '{name}'")
                setattr(made.builtinOptions, name, self._constant(name, value))
        return made

    def _constant(self, field: str, value: Any) -> Any:
        """Return the number of a name such as SAME or RELU6."""
        if field == "padding":
            return getattr(self.schema.Padding, value)
        if field == "fusedActivationFunction":
            return getattr(self.schema.ActivationFunctionType, value)
        if field in ("inDataType", "outDataType"):
            return getattr(self.schema.TensorType, TYPES[value])
        return value

    def _code(self, name: str, version: int) -> Any:
        made = self.schema.OperatorCodeT()
        made.builtinCode = getattr(self.schema.BuiltinOperator, name)
        made.deprecatedBuiltinCode = min(made.builtinCode, self.schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        made.version = version
        return made

    def _signature(self) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey = SIGNATURE
        made.inputs = [self._port(port) for port in self.graph.inputs]
        made.outputs = [self._port(port) for port in self.graph.outputs]
        return made

    def _port(self, port: Port) -> Any:
        made = self.schema.TensorMapT()
        made.name, made.tensorIndex = port.name, self.index[port.tensor]
        return made

    def _metadata(self, name: str, content: bytes) -> Any:
        made = self.schema.MetadataT()
        made.name, made.buffer = name, self._buffer(np.frombuffer(content, np.uint8))
        return made


def _axes(graph: Graph) -> dict[str, dict[str, list[int]]]:
    kinds = (("inputs", graph.inputs), ("outputs", graph.outputs))
    return {kind: {port.name: list(port.order) for port in ports} for kind, ports in kinds}


def _version(operation: Operation) -> int:
    """Return the version of an operation, by the widest integers among its activations."""
    versions = VERSIONS.get(operation.code, (1, 1, 1))
    tensors = [tensor for tensor in (*operation.inputs, *operation.outputs) if tensor is not None]
    quantized = [tensor for tensor in tensors if tensor.encoding is not None]
    if operation.code == "FULLY_CONNECTED" and any(
        tensor.data is not None and tensor.encoding is not None and tensor.encoding.scale.size > 1
        for tensor in quantized
    ):
        return 12
    if any(tensor.dtype == np.int16 for tensor in quantized):
        return versions[2]
    return versions[1] if quantized else versions[0]


@cache
def _buffer_class() -> Any:
    """Return the schema's class of buffers, with the alignment that the schema demands and its Python code ignores."""
    tfl: Any = schema()
    base: Any = tfl.BufferT

    class Buffer(base):  # type: ignore[misc]  # the package has no types
        def Pack(self, builder: Any) -> int:  # noqa: N802 - the schema's name
            data = None
            if self.data is not None and len(self.data):
                builder.StartVector(1, len(self.data), ALIGNMENT)
                builder.head -= len(self.data)
                builder.Bytes[builder.head : builder.head + len(self.data)] = self.data.tobytes()
                data = builder.EndVector()
            tfl.BufferStart(builder)
            if data is not None:
                tfl.BufferAddData(builder, data)
            return int(tfl.BufferEnd(builder))

    return Buffer
