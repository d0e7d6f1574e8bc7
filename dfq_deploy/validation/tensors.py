"""Check stored tensors: shapes, element types and the bytes that they need."""

import math
from pathlib import PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.walk import all_tensors

__all__ = ["check_inputs", "check_tensors"]

LAYERS = 8
"""Times the size of an input that its first layers take."""

LONGEST_FILE_NAME = 255
"""Bytes that file systems allow."""

_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64, TensorProto.COMPLEX64), 64),
    TensorProto.COMPLEX128: 128,
    **{getattr(TensorProto, name): 2 for name in ("INT2", "UINT2") if hasattr(TensorProto, name)},
}
"""Bits of an element; 8 for all other types."""

_FIELDS: dict[int, str] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.COMPLEX64), "float_data"),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.COMPLEX128), "double_data"),
    TensorProto.INT64: "int64_data",
    **dict.fromkeys((TensorProto.UINT32, TensorProto.UINT64), "uint64_data"),
    TensorProto.STRING: "string_data",
}
"""The field that holds the elements where raw_data does not; int32_data for all other types."""

_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)

_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def check_tensors(model: onnx.ModelProto, depth: int, memory: int) -> None:
    """Check that every tensor's data fits its shape, and that all together fit into ``memory`` bytes.

    Raises:
        ModelError: an element type is unknown, a size is negative, the data is longer or shorter than the shape says,
            external data is outside the model's folder, or the tensors need more than ``memory``.
    """
    total = 0
    for tensor in all_tensors(model, depth):
        total += _checked_bytes(tensor)
        if total > memory:
            raise ModelError(
                f"its tensors need more than {memory:,} bytes (tensor '{tensor.name}' has shape "
                f"{list(tensor.dims)}); raise --max-memory if that is meant"
            )


def check_inputs(model: onnx.ModelProto, memory: int) -> None:
    """Check that one sample of each input leaves room for what layers make of it.

    Raises:
        ModelError: an input takes more than an eighth of ``memory`` bytes.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        kind = value.type.tensor_type
        dims = [dim.dim_value if dim.dim_value > 0 else 1 for dim in kind.shape.dim]
        needed = math.prod(dims) * _BITS.get(int(kind.elem_type), 8) // 8
        if value.name not in stored and needed > memory // LAYERS:
            raise ModelError(
                f"input '{value.name}' of shape {dims} takes {needed:,} bytes, and its layers several times as many; "
                f"the limit is {memory:,}: raise --max-memory if that is meant"
            )


def _checked_bytes(tensor: TensorProto) -> int:
    """The bytes that ``tensor`` needs in memory."""
    name, dims, kind = str(tensor.name), [int(dim) for dim in tensor.dims], int(tensor.data_type)
    if kind not in _TYPES:
        raise ModelError(f"tensor '{name}' has the unknown element type {kind}; export the model again")
    if any(dim < 0 for dim in dims):
        raise ModelError(f"tensor '{name}' has the negative size {min(dims)} in its shape {dims}; export it again")
    count, bits = math.prod(dims), _BITS.get(kind, 8)
    needed = -(-count * bits // 8)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor)
        return needed
    if tensor.HasField("raw_data"):
        stored = len(tensor.raw_data)
        if kind == TensorProto.STRING or stored != needed:
            raise _mismatch(tensor, f"{stored:,} bytes", f"{needed:,}")
        return needed
    wanted = 2 * count if kind in _COMPLEX else -(-count * bits // 8) if bits < 8 else count
    elements = len(getattr(tensor, _FIELDS.get(kind, "int32_data")))
    if elements != wanted and not (bits < 8 and elements == count):  # some writers store one element of 4 bits in each
        raise _mismatch(tensor, f"{elements:,} elements", f"{wanted:,}")
    return needed


def _mismatch(tensor: TensorProto, stored: str, needed: str) -> ModelError:
    kind = TensorProto.DataType.Name(tensor.data_type)
    return ModelError(
        f"tensor '{tensor.name}' stores {stored}, but its shape {list(tensor.dims)} of {kind} needs {needed}; the file "
        "is damaged: export it again"
    )


def _check_external(tensor: TensorProto) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    parts = (*PurePosixPath(place).parts, *PureWindowsPath(place).parts)
    outside = ".." in parts or PurePosixPath(place).is_absolute() or bool(PureWindowsPath(place).anchor)
    if not place or outside or len(place.encode()) > LONGEST_FILE_NAME:
        raise ModelError(
            f"tensor '{tensor.name}' is stored in '{place[:80]}', which is no file beside the model; keep its data "
            "file in the model's folder"
        )
    for key in ("offset", "length"):
        if key in entries and not entries[key].isdecimal():
            raise ModelError(
                f"tensor '{tensor.name}': the {key} of its external data is '{entries[key]}', not a number of bytes; "
                "export the model again"
            )
