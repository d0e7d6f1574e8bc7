"""Export a torch.nn.Module to ONNX with its BatchNormalization kept."""

import copy
import warnings
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from dfq_deploy.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from dfq_deploy.graph.reading import ModelSource

__all__ = ["exported", "from_torch"]

OPSET = 17

BATCH = 2
"""Batch size of the zeros for tracing; with a batch of 1, a squeeze in the module would remove the batch."""


def from_torch(module: "Module", input_shape: tuple[int, ...]) -> ir.Model:
    """Export a module with one float input, named ``input``; its first output is named ``output``.

    BatchNormalization nodes are kept, so that samples can be synthesized from them, and the batch is dynamic. A float32
    copy on the CPU in evaluation mode is exported; the module is not changed.

    Args:
        input_shape: shape of one sample, without the batch, e.g. (3, 224, 224).

    Raises:
        ModelError: torch cannot copy, run or export it.
    """
    import torch

    if not input_shape or any(size < 1 for size in input_shape):
        raise ModelError(f"input_shape {tuple(input_shape)}: give the sizes of one sample, e.g. (3, 224, 224)")
    try:
        proto = _export(copy.deepcopy(module).cpu().float().eval(), torch.zeros(BATCH, *input_shape))
    except Exception as problem:  # whatever the module's own code raises
        raise ModelError(
            f"torch cannot export {type(module).__name__} with an input of shape ({BATCH}, "
            f"{', '.join(map(str, input_shape))}): {first_line(problem)}; check input_shape, or export it yourself"
        ) from problem
    proto.graph.name = type(module).__name__
    return ir.from_proto(proto)


def exported(source: "ModelSource | Module", input_shape: tuple[int, ...] | None) -> "ModelSource":
    """Export a module with :func:`from_torch`; return any other source as it is.

    Raises:
        ModelError: torch cannot export the module, or ``input_shape`` is missing.
    """
    if isinstance(source, str | PathLike | onnx.ModelProto | ir.Model):
        return source
    if input_shape is None:
        raise ModelError(
            f"{type(source).__name__}: a torch.nn.Module needs input_shape, the sizes of one sample, e.g. (3, 224, 224)"
        )
    return from_torch(source, input_shape)


def _export(module: "Module", example: "Tensor") -> onnx.ModelProto:
    import torch

    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        # The newer exporter folds BatchNormalization unless all its optimizations are disabled.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        return onnx.load(path)
