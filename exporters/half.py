"""Half precision for the part of a quantized model that stays in float."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError, first_line
from dfq_deploy.graph.large_models import fits_in_message

from .storage import upgraded

__all__ = ["SMALLEST", "half_scales", "to_half"]

OPSET = 19
"""The first opset whose QuantizeLinear and DequantizeLinear have scales and floats in half precision."""

SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
"""The smallest positive half: a scale below it would become 0."""


def half_scales(encodings: Mapping[str, Encoding]) -> dict[str, Encoding]:
    """Raise the scales of ``encodings`` to the next half-precision number, and to at least :data:`SMALLEST`.

    Weights are rounded with these scales, so that storing them in half precision changes nothing more.
    """
    return {name: replace(encoding, scale=_raised(encoding.scale)) for name, encoding in encodings.items()}


def _raised(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    nearest = scale.astype(np.float16)
    up = np.where(nearest.astype(np.float32) < scale, np.nextafter(nearest, np.float16(np.inf)), nearest)
    return np.maximum(up.astype(np.float32), np.float32(SMALLEST)).reshape(scale.shape)


def to_half(model: ir.Model) -> ir.Model:
    """Return a copy of ``model`` that computes in half precision what it computed in float32.

    Inputs and outputs stay float32. ONNX Runtime's converter keeps operators in float32 that have no other form.

    Raises:
        ModelError: the model exceeds 2 GB, or cannot be converted.
    """
    if not fits_in_message(model):
        raise ModelError("float16: the model has more than 2 GB of weights; leave float16 out")
    if model.opset_imports.get("", OPSET) < OPSET:
        model = upgraded(model, OPSET)
    try:
        proto = convert_float_to_float16(ir.to_proto(model), min_positive_val=SMALLEST, keep_io_types=True)
    except (ValueError, RuntimeError, KeyError) as problem:
        raise ModelError(f"float16: the model cannot be converted ({first_line(problem)}); leave float16 out") from None
    half: ir.Model = ir.from_proto(proto)
    half.graph.sort()  # the converter appends its casts of inputs
    half.metadata_props.update(model.metadata_props)
    return half
