"""Storage of integers of each width in an ONNX file."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import ModelError, first_line
from dfq_deploy.graph.large_models import fits_in_message, through_message

__all__ = ["element_type", "is_clipped", "packed", "upgraded", "with_opset_for"]

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


def element_type(qtype: QuantType, *, whole_bytes: bool = False) -> ir.DataType:
    """Return the smallest ONNX type for ``qtype``: of 4, 8 or 16 bits; of 8 or 16 if ``whole_bytes``."""
    widths = (8, 16) if whole_bytes else (4, 8, 16)
    return TYPES[next(bits for bits in widths if bits >= qtype.bits), qtype.signed]


def is_clipped(qtype: QuantType) -> bool:
    """Return True if no type has exactly the integers of ``qtype``, so that QuantizeLinear needs a Clip after it."""
    return qtype.bits not in (4, 8, 16)


def packed(integers: NDArray[np.integer], kind: ir.DataType, name: str) -> ir.TensorProtocol:
    """Return ``integers`` as a tensor of type ``kind``; 4-bit integers take half a byte each in the file."""
    return ir.Tensor(np.asarray(integers).astype(kind.numpy()), dtype=kind, name=name)


def with_opset_for(model: ir.Model, encodings: Iterable[Encoding], *, whole_bytes: bool = False) -> ir.Model:
    """Upgrade ``model`` to opset 21 if an encoding has a width that older opsets do not support.

    Args:
        whole_bytes: narrower integers are stored in bytes.

    Raises:
        ModelError: onnx cannot convert it.
    """
    if model.opset_imports.get("", OPSET_OF_WIDTHS) >= OPSET_OF_WIDTHS:
        return model
    types = {element_type(encoding.qtype, whole_bytes=whole_bytes) for encoding in encodings}
    if types <= {ir.DataType.INT8, ir.DataType.UINT8}:
        return model
    return upgraded(model, OPSET_OF_WIDTHS)


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
            f"the model's opset {model.opset_imports['']} cannot be converted to {opset}, which 4 and 16 bits need "
            f"({reason}); export it with opset {opset} or newer, or use other bits"
        ) from None
    converted.metadata_props.update(model.metadata_props)
    return converted
