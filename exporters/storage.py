"""Storage of integers of each width in an ONNX file."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import ModelError, first_line
from dfq_deploy.graph.large_models import fits_in_message, through_message

__all__ = ["IR_VERSION_OF_FLOATS", "element_type", "is_clipped", "packed", "upgraded", "with_opset_for"]

OPSET_OF_WIDTHS = 21
"""The first opset whose QuantizeLinear and DequantizeLinear support 4 and 16 bits."""

TYPES = {
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
    (16, True): ir.DataType.INT16,
    (16, False): ir.DataType.UINT16,
}

OPSETS = {ir.DataType.INT8: 0, ir.DataType.UINT8: 0, ir.DataType.FLOAT8E4M3FN: 19}
"""The first opset whose QuantizeLinear and DequantizeLinear support a type; of others it is OPSET_OF_WIDTHS."""

IR_VERSION_OF_FLOATS = 9
"""The first version of the format that has FP8."""


def element_type(qtype: QuantType, *, whole_bytes: bool = False) -> ir.DataType:
    """Return the smallest ONNX type for ``qtype``: of 4, 8 or 16 bits; of 8 or 16 if ``whole_bytes``; or FP8."""
    if qtype.floating:
        return ir.DataType.FLOAT8E4M3FN
    widths = (8, 16) if whole_bytes else (4, 8, 16)
    return TYPES[next(bits for bits in widths if bits >= qtype.bits), qtype.signed]


def is_clipped(qtype: QuantType) -> bool:
    """Return True if no type has exactly the integers of ``qtype``, so that QuantizeLinear needs a Clip after it."""
    return qtype.bits not in (4, 8, 16)


def packed(integers: NDArray[np.integer], kind: ir.DataType, name: str) -> ir.TensorProtocol:
    """Return ``integers`` as a tensor of type ``kind``; 4-bit integers take half a byte each in the file."""
    return ir.Tensor(np.asarray(integers).astype(kind.numpy()), dtype=kind, name=name)


def with_opset_for(model: ir.Model, encodings: Iterable[Encoding], *, whole_bytes: bool = False) -> ir.Model:
    """Upgrade ``model`` to opset 19 or 21 if an encoding has a type that older opsets do not support.

    Args:
        whole_bytes: narrower integers are stored in bytes.

    Raises:
        ModelError: onnx cannot convert it.
    """
    types = {element_type(encoding.qtype, whole_bytes=whole_bytes) for encoding in encodings}
    needed = max((OPSETS.get(kind, OPSET_OF_WIDTHS) for kind in types), default=0)
    return model if model.opset_imports.get("", needed) >= needed else upgraded(model, needed)


def upgraded(model: ir.Model, opset: int) -> ir.Model:
    """Return a copy of ``model`` in a newer opset, with names and metadata.

    Raises:
        ModelError: onnx cannot convert it.
    """
    try:
        if fits_in_message(model):
            converted = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
        else:
            converted = through_message(model, lambda proto: onnx.version_converter.convert_version(proto, opset))
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as problem:
        reason = first_line(problem)
        raise ModelError(
            f"the model's opset {model.opset_imports['']} cannot be converted to {opset}, which other types than "
            f"INT8 need ({reason}); export it with opset {opset} or newer, or use other bits"
        ) from None
    converted.metadata_props.update(model.metadata_props)
    return converted
