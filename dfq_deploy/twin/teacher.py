"""Build the twin for synthesis and training: one input, channels first, any batch size."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.errors import ModelError, is_out_of_memory
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.inputs import (
    ExtraInputs,
    input_values,
    is_channels_last,
    main_input,
    main_input_value,
    model_inputs,
)
from dfq_deploy.graph.passes.open_batch import open_batch
from dfq_deploy.graph.query import score_logits
from dfq_deploy.graph.task import score_output
from dfq_deploy.runtime.plugin_nodes import plugin_nodes, runnable_part
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Twin
from dfq_deploy.twin.dtypes import dtype_of

__all__ = ["same_rows", "teacher_of", "twin_images"]


def teacher_of(model: ir.Model, extra: ExtraInputs, device: str) -> Twin:
    """The twin of ``model`` with the main input only, which takes images as (N, C, H, W).

    Rules: (1) every other input is replaced by its first row of ``extra``, repeated for each sample; (2) a Transpose is
    added to a main input (N, H, W, C); (3) a fixed batch dimension is made dynamic if the graph permits it, and the
    twin runs one batch after another otherwise (``batch`` of the twin); (4) the logits of the class scores
    become the first output, in place of the scores; (5) operators that ONNX Runtime does not have, and what depends on
    them, are left out.
    A model that needs none of these is imported unchanged.
    """
    model = runnable_part(model) if plugin_nodes(model) else model
    main = main_input_value(model)
    batch = main.shape[0] if main.shape is not None and len(main.shape) else None
    logits = score_logits(model)
    behind = logits is not None and logits.value is not model.graph.outputs[0]
    if extra or is_channels_last(model) or isinstance(batch, int) or behind:
        model = model.clone()
        main = main_input_value(model)
        if isinstance(batch, int):
            open_batch(model, batch)
        for value in [value for value in input_values(model) if value.name in extra]:
            _bind_input(model.graph, value, main, extra[str(value.name)])
        if is_channels_last(model):
            _add_transpose(model.graph, main)
        _put_logits_first(model)
    twin = Twin.from_model(model).to(device)
    if isinstance(batch, int) and not _takes_batches(twin, main, batch, device):
        twin.batch = batch
    for tensor in (*twin.parameters(), *twin.buffers()):  # Module.to() refuses tensors of 5 dimensions
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return twin


def twin_images(model: ir.Model, samples: Samples) -> Tensor:
    """Samples as input of the twin of :func:`teacher_of`: images are (N, C, H, W) in channels-last memory format.

    Token ids and the like have the type of the main input.
    """
    images = samples.images.transpose(0, 3, 1, 2) if is_channels_last(model) else samples.images
    main = main_input(model_inputs(model))
    tensor = torch.from_numpy(images if main.is_float else images.astype(main.dtype))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


@torch.no_grad()
def _takes_batches(twin: Twin, main: ir.Value, batch: int, device: str) -> bool:
    """False where the twin runs a batch, and the outputs for twice as many samples are not those for each batch."""
    shape = [] if main.shape is None else [dim for dim in main.shape[1:] if isinstance(dim, int)]
    if main.shape is None or len(shape) + 1 < len(main.shape) or len(twin.input_names) > 1:
        return True  # an open size: nothing to try it with
    drawn = torch.rand(2 * batch, *shape, generator=torch.Generator().manual_seed(0))
    dtype = dtype_of(int(main.dtype or ir.DataType.FLOAT), f"input '{main.name}'")
    whole = (drawn if dtype.is_floating_point else drawn > 0.5).to(device, dtype)
    one, other = _outputs(twin, whole[:batch]), _outputs(twin, whole[batch:])
    if one is None or other is None:
        return True
    together = _outputs(twin, whole)
    return together is not None and all(
        same_rows(output, rows) for output, *rows in zip(together, one, other, strict=True)
    )


def _outputs(twin: Twin, images: Tensor) -> tuple[Tensor, ...] | None:
    """None where the graph cannot be run on them."""
    try:
        found = twin(images)
    except (ModelError, RuntimeError, ValueError, IndexError) as problem:
        if is_out_of_memory(problem):  # not caused by the graph
            raise
        return None
    return (found,) if isinstance(found, Tensor) else found


def same_rows(batched: Tensor, rows: Sequence[Tensor]) -> bool:
    """True if ``batched`` is the concatenation of ``rows`` up to rounding, or has no batch dimension."""
    if batched.shape == rows[0].shape:
        return True
    scale = float(batched.abs().max()) if batched.numel() else 0.0
    concatenated = torch.cat(list(rows))
    return concatenated.shape == batched.shape and torch.allclose(batched, concatenated, rtol=1e-3, atol=1e-3 * scale)


def _put_logits_first(model: ir.Model) -> None:
    scores, logits = score_output(model), score_logits(model)
    if logits is not None:
        rest = [value for value in model.graph.outputs if value not in (scores, logits.value)]
        outputs = [logits.value, *rest]
        model.graph.outputs.clear()
        model.graph.outputs.extend(outputs)


def _add_transpose(graph_: ir.Graph, main: ir.Value) -> None:
    """Change the main input from (N, H, W, C) to (N, C, H, W) with a Transpose."""
    names = Names(graph_)
    node = ir.node("Transpose", [main], {"perm": [0, 2, 3, 1]}, name=names.fresh(f"{main.name}_Transpose"))
    node.outputs[0].name, node.outputs[0].type = names.fresh(f"{main.name}_channels_last"), main.type
    node.outputs[0].shape = main.shape
    main.replace_all_uses_with(node.outputs[0])
    node.replace_input_with(0, main)
    if main.shape is not None:
        batch, height, width, channels = main.shape
        main.shape = ir.Shape([batch, channels, height, width])
    graph_.insert_before(next(iter(graph_)), [node])


def _bind_input(graph_: ir.Graph, value: ir.Value, main: ir.Value, rows: NDArray[np.generic]) -> None:
    """Replace an input by the constant first of ``rows``, expanded to the batch size of the main input if batched."""
    names = Names(graph_)
    batched = value.shape is not None and len(value.shape) == rows.ndim
    row = np.ascontiguousarray(rows[:1] if batched else rows[0])
    constant = add_constant(graph_, names.fresh(f"{value.name}_row"), row)
    steps: list[ir.Node] = []
    result = constant
    if batched:
        zero = add_constant(graph_, names.fresh(f"{value.name}_zero"), np.array([0], np.int64))
        rest = add_constant(graph_, names.fresh(f"{value.name}_rest"), np.array(row.shape[1:], np.int64))
        shape = ir.node("Shape", [main])
        count = ir.node("Gather", [shape.outputs[0], zero])
        full_shape = ir.node("Concat", [count.outputs[0], rest], {"axis": 0})
        steps = [shape, count, full_shape, ir.node("Expand", [constant, full_shape.outputs[0]])]
        for step in steps:
            step.name = names.fresh(f"{value.name}_{step.op_type}")
            step.outputs[0].name = names.fresh(f"{step.name}_output")
            step.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        result = steps[-1].outputs[0]
        result.type = value.type
    value.replace_all_uses_with(result)
    graph_.inputs.remove(value)
    if steps:
        graph_.insert_before(next(iter(graph_)), steps)
