"""Export a torch.nn.Module or a torch.export program to ONNX with its BatchNormalization kept."""

import copy
import warnings
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
import onnx_ir as ir

from dfq_deploy.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.nn import Module

    from dfq_deploy.graph.reading import ModelSource

__all__ = ["TorchSource", "exported", "from_program", "from_torch"]

TorchSource: TypeAlias = "Module | ExportedProgram"

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
        proto = _export(
            copy.deepcopy(module).cpu().float().eval(),
            (torch.zeros(BATCH, *input_shape),),
            ["input"],
            ["output"],
            {"input": {0: "batch"}, "output": {0: "batch"}},
        )
    except Exception as problem:  # whatever the module's own code raises
        raise ModelError(
            f"torch cannot export {type(module).__name__} with an input of shape ({BATCH}, "
            f"{', '.join(map(str, input_shape))}): {first_line(problem)}; check input_shape, or export it yourself"
        ) from problem
    proto.graph.name = type(module).__name__
    return ir.from_proto(proto)


def from_program(program: "ExportedProgram") -> ir.Model:
    """Export what ``torch.export.export(module.eval(), ...)`` returned; inputs keep their names and their open sizes.

    An only output is named ``output``, several ``output_0``, ``output_1`` and so on.

    Raises:
        ModelError: an input is not a tensor, or the program was decomposed, so that torch's TorchScript exporter does
            not know its operators.
    """
    import torch

    names = program.graph_signature.user_inputs
    args, kwargs = program.example_inputs or ((), {})
    values = (*args, *kwargs.values())
    if len(values) != len(names) or not all(isinstance(value, torch.Tensor) for value in values):
        raise ModelError(f"torch.export program with the inputs {', '.join(map(str, names))}: all have to be tensors")
    outputs = program.graph_signature.user_outputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch copies a program with classes that it deprecates
            # The checks of sizes are not exported.
            warnings.filterwarnings("ignore", "Converting a tensor to a Python (boolean|integer)")
            proto = _export(
                _as_module(program, len(args), tuple(kwargs)),
                values,
                [str(name) for name in names],
                ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))],
                _open_axes(program),
            )
    except Exception as problem:  # whatever torch raises for an operator that it cannot write
        raise ModelError(
            f"torch cannot export this program: {first_line(problem)}; give the module itself, or write the file with "
            "torch.onnx.export(program, f='model.onnx', dynamo=True, optimize=False)"
        ) from problem
    proto.graph.name = "program"
    return ir.from_proto(proto)


def exported(source: "ModelSource | TorchSource", input_shape: tuple[int, ...] | None) -> "ModelSource":
    """Export a module with :func:`from_torch`, a program with :func:`from_program`; return other sources as they are.

    Raises:
        ModelError: torch cannot export it, or ``input_shape`` is missing for a module.
    """
    if isinstance(source, str | PathLike | onnx.ModelProto | ir.Model):
        return source
    from torch.export import ExportedProgram

    if isinstance(source, ExportedProgram):
        return from_program(source)
    if input_shape is None:
        raise ModelError(
            f"{type(source).__name__}: a torch.nn.Module needs input_shape, the sizes of one sample, e.g. (3, 224, 224)"
        )
    return from_torch(source, input_shape)


def _as_module(program: "ExportedProgram", positional: int, keywords: tuple[str, ...]) -> "Module":
    """A module that runs the program; torch takes that of the program itself for TorchScript, which it is not."""
    from torch.nn import Module

    class Program(Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program.module()
            self.training = False  # eval() is refused by the program, whose mode was fixed when it was made

        def forward(self, *values: "Tensor") -> Any:
            named = dict(zip(keywords, values[positional:], strict=True))
            return self.program(*values[:positional], **named)

    return Program()


def _open_axes(program: "ExportedProgram") -> dict[str, dict[int, str]]:
    """Input name -> axis -> name of its size; equal sizes have one name, ``batch`` if they are the first axis."""
    names: dict[str, str] = {}
    inputs = set(program.graph_signature.user_inputs)
    axes: dict[str, dict[int, str]] = {}
    for node in program.graph.nodes:
        if node.name not in inputs:
            continue
        sizes = {axis: str(size) for axis, size in enumerate(node.meta["val"].shape) if not isinstance(size, int)}
        for axis, size in sizes.items():
            names.setdefault(size, "batch" if axis == 0 and "batch" not in names.values() else f"{node.name}_{axis}")
        axes[node.name] = {axis: names[size] for axis, size in sizes.items()}
    return axes


def _export(
    module: "Module",
    examples: "tuple[Tensor, ...]",
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:
    import torch

    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        # The newer exporter folds BatchNormalization unless all its optimizations are disabled.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            examples,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        return onnx.load(path)
