"""Convert ONNX element types and constants to torch."""

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.errors import ModelError

__all__ = ["DTYPES", "dtype_of", "tensor_of"]

DTYPES: dict[int, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.BFLOAT16: torch.bfloat16,
}
"""Element types that the twin supports."""


def dtype_of(code: int, place: str) -> torch.dtype:
    """The torch dtype of an ONNX element type.

    Raises:
        ModelError: the type is not supported (strings, 4-bit and 8-bit floats, 2-bit and 4-bit integers).
    """
    dtype = DTYPES.get(code)
    if dtype is None:
        raise ModelError(
            f"{place}: the twin does not support the type {ir.DataType(code).name}; export the model in float32"
        )
    return dtype


def tensor_of(constant: ir.TensorProtocol, place: str) -> Tensor:
    """A CPU tensor with a copy of the values of a constant.

    Raises:
        ModelError: the element type is not supported.
    """
    dtype = dtype_of(int(constant.dtype), place)
    array = np.array(constant.numpy(), copy=True, order="C")
    if dtype is torch.bfloat16:  # torch cannot read NumPy's bfloat16: reinterpret the bits
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
