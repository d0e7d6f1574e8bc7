"""How integers of each width are stored in an ONNX file."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import ModelError, first_line
from dfq_deploy.graph.large_models import fits_in_message, through_message

__all__ = ["element_type", "is_clipped", "packed", "upgraded", "with_room_for"]

OPSET_OF_WIDTHS = 21
"""The first opset whose QuantizeLinear and DequantizeLinear take 4 and 16 bits."""

TYPES = {
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
    (16, True): ir.DataType.INT16,
    (16, False): ir.DataType.UINT16,
}


def element_type(qtype: QuantType, *, clipped: bool = False) -> ir.DataType:
    """The narrowest type of ONNX that holds ``qtype``: of 4, 8 or 16 bits; of 8 or 16 where a Clip must take it."""
    widths = (8, 16) if clipped else (4, 8, 16)
    return TYPES[next(bits for bits in widths if bits >= qtype.bits), qtype.signed]


def is_clipped(qtype: QuantType) -> bool:
    """True if no type holds just the integers of ``qtype``, so that a Clip must follow a QuantizeLinear."""
    return qtype.bits not in (4, 8, 16)


def packed(integers: NDArray[np.integer], kind: ir.DataType, name: str) -> ir.TensorProtocol:
    """``integers`` as a tensor of ``kind``; those of 4 bits take half a byte each in the file."""
    return ir.Tensor(np.asarray(integers).astype(kind.numpy()), dtype=kind, name=name)


def with_room_for(model: ir.Model, encodings: Iterable[Encoding]) -> ir.Model:
    """``model``, upgraded to opset 21 where an encoding has a width that older ones lack.

    Raises:
        ModelError: onnx cannot convert it.
    """
    if model.opset_imports.get("", OPSET_OF_WIDTHS) >= OPSET_OF_WIDTHS:
        return model
    if all(element_type(encoding.qtype) in (ir.DataType.INT8, ir.DataType.UINT8) for encoding in encodings):
        return model
    return upgraded(model, OPSET_OF_WIDTHS)


def upgraded(model: ir.Model, opset: int) -> ir.Model:
    """A copy of ``model`` in a newer opset, names and metadata kept.

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
            f"({reason}); export it with opset {opset} or newer, or take other bits"
        ) from None
    converted.metadata_props.update(model.metadata_props)
    return converted
