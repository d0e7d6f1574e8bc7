"""How operators of ONNX are written, one module for each family; importing the package registers them all.

================== =======================================================================================
``activation``     Activation functions.
``comparison``     Comparisons, choices and casts.
``convolution``    Conv and ConvTranspose.
``dense``          Gemm and MatMul.
``elementwise``    Arithmetic of two tensors, and functions of one.
``moving``         Reshape, Transpose, Squeeze and others that keep all values.
``normalization``  BatchNormalization, LayerNormalization, InstanceNormalization.
``pooling``        Poolings over windows.
``reduction``      Means, sums and extremes over axes, and global poolings.
``resizing``       Resize.
``slicing``        Slice, Split, Gather, Concat, Pad and others that select or join values.
``windows``        Padding and strides of convolutions and poolings.
================== =======================================================================================
"""

from . import (  # noqa: F401
    activation,
    comparison,
    convolution,
    dense,
    elementwise,
    moving,
    normalization,
    pooling,
    reduction,
    resizing,
    slicing,
)
