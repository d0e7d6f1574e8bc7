"""Load a float ONNX model, check it, and find what matters in it.

The model is an :class:`onnx_ir.Model` everywhere after :func:`load`.
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import google.protobuf.message
import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.errors import ModelError

__all__ = [
    "WEIGHTED_OPS",
    "ModelSource",
    "batch_normalizations",
    "constant_of",
    "image_input",
    "inputs",
    "load",
    "parameter_count",
    "sample_shape",
    "score_count",
    "to_bytes",
    "weighted",
]

ModelSource: TypeAlias = "str | PathLike[str] | onnx.ModelProto | ir.Model"

MINIMUM_OPSET = 13
"""QuantizeLinear and DequantizeLinear have a channel axis from here on."""

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

QUANTIZED_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
)

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})


def load(source: ModelSource) -> ir.Model:
    """Read, check, upgrade and shape-infer a float model.

    Model-local functions are inlined, Constant nodes become initializers, every node has a name, and an
    opset below 13 is converted. A model that is handed over in memory is copied first.

    Raises:
        ModelError: the file is missing, is not ONNX, lacks its external data, fails the checker, is
            quantized already, has no float input, or holds NaN or infinite weights.
    """
    place = "the model" if isinstance(source, ir.Model | onnx.ModelProto) else str(source)
    proto = _read(source, place)
    _refuse_quantized(proto, place)
    model = ir.from_proto(_upgraded(proto, place))
    InlinePass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _name_nodes(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    _refuse_inputs(model, place)
    _refuse_weights(model, place)
    return model


def _read(source: ModelSource, place: str) -> onnx.ModelProto:
    if isinstance(source, ir.Model):
        return ir.to_proto(source)
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return copy
    path = Path(source)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of an .onnx file")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, ValueError, OSError) as problem:
        raise ModelError(f"{path}: not an ONNX model, or cut short ({problem}); export it again") from None
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model (it holds no graph); export it again")
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as problem:
        raise ModelError(
            f"{path}: its external data cannot be read ({_first_line(problem)}); keep the data file beside the model"
        ) from None
    return proto


def _upgraded(proto: onnx.ModelProto, place: str) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(proto, check_custom_domain=False)
    except onnx.checker.ValidationError as problem:
        raise ModelError(f"{place}: the ONNX checker refuses it: {_first_line(problem)}; export it again") from None
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is None or opset >= MINIMUM_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, MINIMUM_OPSET)
    except (RuntimeError, ValueError) as problem:
        raise ModelError(
            f"{place}: opset {opset} cannot be converted to {MINIMUM_OPSET} ({_first_line(problem)}); "
            f"export it with opset {MINIMUM_OPSET} or newer"
        ) from None


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(problem).__name__


def _refuse_quantized(proto: onnx.ModelProto, place: str) -> None:
    for node in proto.graph.node:
        if node.op_type in QUANTIZED_OPS or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{place}: already quantized ({node.op_type} '{node.name}'); give the float model that it was made from"
            )


def _name_nodes(model: ir.Model) -> None:
    seen: set[str] = set()
    for index, node in enumerate(model.graph):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def _refuse_inputs(model: ir.Model, place: str) -> None:
    if not any(value.dtype in FLOATS for value in inputs(model)):
        kinds = ", ".join(f"{value.name}: {value.dtype}" for value in inputs(model)) or "none"
        raise ModelError(f"{place}: no float input (inputs: {kinds}); only float inputs can be synthesized")


def _refuse_weights(model: ir.Model, place: str) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOATS:
            continue
        if not np.isfinite(tensor.numpy().astype(np.float32, copy=False)).all():
            readers = ", ".join(f"{use.node.op_type} '{use.node.name}'" for use in value.uses()) or "no node"
            raise ModelError(
                f"{place}: weight '{name}' of {readers} holds NaN or infinity; training has diverged, "
                "or the file is damaged"
            )


def inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller feeds: initializers that are also listed as inputs are left out."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def image_input(model: ir.Model) -> ir.Value:
    """The first float input, preferring one of rank 4."""
    floats = [value for value in inputs(model) if value.dtype in FLOATS]
    return next((value for value in floats if value.shape is not None and len(value.shape) == 4), floats[0])


def sample_shape(model: ir.Model) -> tuple[int, ...]:
    """Shape of one sample, (C, H, W) for images: the image input's shape without the batch.

    Raises:
        ModelError: the shape is unknown, or open anywhere but in the batch.
    """
    value = image_input(model)
    dims = None if value.shape is None else list(value.shape)
    if dims is None or not all(isinstance(dim, int) and dim > 0 for dim in dims[1:]):
        shown = "unknown" if dims is None else f"({', '.join(str(dim) for dim in dims)})"
        raise ModelError(
            f"input '{value.name}': shape {shown} is open beyond the batch; "
            "export the model with a fixed height and width"
        )
    return tuple(dim for dim in dims[1:] if isinstance(dim, int))


def score_count(model: ir.Model) -> int | None:
    """Number of classes where the first output is one row of scores for each sample, else None."""
    shape = model.graph.outputs[0].shape
    if shape is None:
        return None
    dims = [dim for dim in list(shape)[1:] if dim != 1]
    return dims[0] if len(dims) == 1 and isinstance(dims[0], int) and dims[0] > 1 else None


def batch_normalizations(model: ir.Model) -> list[ir.Node]:
    """The BatchNormalization nodes, in order."""
    return [node for node in model.graph if node.op_type == "BatchNormalization"]


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant that an initializer holds; None for anything computed or fed."""
    if value is None or value.producer() is not None or not value.is_initializer():
        return None
    return value.const_value


def weighted(model: ir.Model) -> list[ir.Node]:
    """Convolutions and matrix products whose second input is a constant, in order."""
    return [
        node
        for node in model.graph
        if node.op_type in WEIGHTED_OPS and len(node.inputs) > 1 and constant_of(node.inputs[1]) is not None
    ]


def parameter_count(values: Iterable[ir.Value]) -> int:
    """Number of elements in the constants among ``values``."""
    return sum(tensor.size for value in values if (tensor := constant_of(value)) is not None)


def to_bytes(model: ir.Model) -> bytes:
    """The serialized model, as ONNX Runtime takes it."""
    return bytes(ir.to_proto(model).SerializeToString())
