"""Shapes as a file declares them, whatever they are closed to, and the names of their open sizes."""

import onnx_ir as ir

__all__ = ["NO_NAMES", "OPEN", "file_shape", "size_name"]

OPEN = "dfq_deploy.open_shape"
"""Key in a value's ``meta``, which copies of a model keep and no file holds."""

NO_NAMES = ("?", "None")
"""What PaddlePaddle and Keras's converter call every open dimension; two of them need not be the same."""


def file_shape(value: ir.Value) -> ir.Shape | None:
    """The shape that the file gives a value, whatever it is closed to by now."""
    shape = value.meta.get(OPEN, value.shape)
    return shape if shape is None or isinstance(shape, ir.Shape) else None


def size_name(dim: int | ir.SymbolicDim) -> str:
    """The name of an open dimension; empty for a number, and where it has none."""
    return "" if isinstance(dim, int) or dim.value in (None, *NO_NAMES) else str(dim.value)
