"""The graph of a file that a session runs: what it says beside names and types."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import google.protobuf.message
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.inputs import NO_BATCH

__all__ = ["normalized", "read_graph", "stated_without_batch"]


def read_graph(source: str | PathLike[str] | bytes, outputs: Mapping[str, Any]) -> ir.Model | None:
    """The graph of a file or message, without external weights; None for another format than ONNX.

    Args:
        outputs: name of each output -> its shape as the session infers it, for those that the file gives none.
    """
    try:
        if isinstance(source, bytes):
            proto = onnx.load_model_from_string(source)
        else:
            proto = onnx.load(source, load_external_data=False)
    except google.protobuf.message.DecodeError:
        return None
    model = ir.from_proto(proto)
    for value in model.graph.outputs:
        if value.shape is None and outputs.get(str(value.name)):
            value.shape = ir.Shape(outputs[str(value.name)])
    return model


def normalized(model: ir.Model) -> ir.Model:
    """``model``, in place, with its constants as initializers and its shapes inferred."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    return model


def stated_without_batch(metadata: Mapping[str, str]) -> frozenset[str] | None:
    """Names of the inputs and outputs that have no batch, as the metadata states them; None where it does not."""
    return frozenset(metadata[NO_BATCH].split("\n")) if NO_BATCH in metadata else None
