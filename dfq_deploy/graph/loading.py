"""Load a float or quantized model, check it, normalize its form.

The model is an :class:`onnx_ir.Model` everywhere after :func:`load`.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.batch_axis import add_batch_axis, with_batch_of_one
from dfq_deploy.graph.editing import drop_unused_initializers
from dfq_deploy.graph.file_shapes import file_shape
from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.inputs import InputShapes, input_values, state_main_input
from dfq_deploy.graph.loop_invariants import free_invariants
from dfq_deploy.graph.operators import FLOATS, NUMBERS, WEIGHTED_OPS, is_op
from dfq_deploy.graph.passes.copied_sizes import fold_static_sizes
from dfq_deploy.graph.passes.fold_constants import fold_constants
from dfq_deploy.graph.passes.input_shapes import fix_inputs
from dfq_deploy.graph.passes.open_sizes import has_open_sizes, reopen, restore_output_shapes
from dfq_deploy.graph.passes.to_float32 import to_float32
from dfq_deploy.graph.reading import ModelSource, blamed_on_the_file, read_any, read_checked, source_name
from dfq_deploy.validation.bounds import bounds
from dfq_deploy.validation.clock import check_time, timed

__all__ = ["add_notes", "load", "load_notes", "load_quantized", "load_stored"]

NOTES = "dfq_deploy.notes"


def load(
    source: ModelSource,
    *,
    input_shapes: InputShapes | None = None,
    fix_shapes: bool = False,
    batch_axis: bool = False,
) -> ir.Model:
    """Read, check, upgrade and shape-infer a float model.

    Model-local functions are inlined, Constant nodes and what depends on constants alone become initializers
    (:mod:`dfq_deploy.graph.passes.fold_constants`), every node has a name, an opset below 13 is converted, other widths
    of float become float32 (:mod:`dfq_deploy.graph.passes.to_float32`), and the metadata says which of several inputs
    is the main one. A model that is handed over in memory is copied first. :func:`.load_notes` says what a user should
    know of it.

    Args:
        source: a path, or a model in memory.
        input_shapes: input name -> its shape with the batch, for inputs whose size is open: it is closed to measure
            with, and what :func:`dfq_deploy.quantization.encode.prepare` makes of the model has it open again.
        fix_shapes: close these for good.
        batch_axis: put a batch of 1 before inputs and outputs of a model that has none
            (:mod:`dfq_deploy.graph.batch_axis`).

    Raises:
        ModelError: the file is missing, is not ONNX, lacks its external data, fails the checker, is
            quantized already, has an input that no array can feed, or holds NaN or infinite weights.
    """
    source, input_shapes = _as_in_the_file(source, input_shapes)
    with blamed_on_the_file(source), timed(source_name(source)):
        return _load(source, input_shapes, fix_shapes, batch_axis)


def _load(source: ModelSource, input_shapes: InputShapes | None, fix_shapes: bool, batch_axis: bool) -> ir.Model:
    place = source_name(source)
    model = read_checked(source)
    check_time("reading it")
    InlinePass()(model)
    lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(model)
    if fold_constants(model):
        lift(model)
    free_invariants(model)
    _name_nodes(model)
    said = [*_leave_training_mode(model)]
    wide = any(value.dtype == ir.DataType.BFLOAT16 for value in (*input_values(model), *model.graph.outputs))
    kept = "inputs and outputs keep their type"
    if wide:
        kept = "inputs and outputs of bfloat16, which NumPy has no type for, become float32"
    said += [
        f"the model is {' and '.join(widths)}: computed and quantized as float32; {kept}"
        for widths in [to_float32(model)]
        if widths
    ]
    declared = [value.shape for value in model.graph.outputs]
    _infer_shapes(model, place)
    while fold_static_sizes(model):  # an If that is decided by one uncovers more of them
        fold_constants(model)
        lift(model)
        _name_nodes(model)
        drop_unused_initializers(model.graph)
        _infer_shapes(model, place)
    restore_output_shapes(model, declared, {})
    if batch_axis and (added := add_batch_axis(model)):
        said += added
        input_shapes = with_batch_of_one(model, input_shapes or {})
    if input_shapes:
        said += fix_inputs(model, input_shapes, place, keep=not fix_shapes)
    _refuse_inputs(model, place)
    _refuse_weights(model, place)
    _refuse_variances(model, place)
    model.meta[NOTES] = tuple(said)
    state_main_input(model)
    return model


def _as_in_the_file(source: ModelSource, stated: InputShapes | None) -> tuple[ModelSource, InputShapes | None]:
    """A model in memory that is closed to measure with, open again, with the sizes that it is closed to as stated."""
    if not isinstance(source, ir.Model) or not has_open_sizes(source):
        return source, stated
    closed = {
        str(value.name): [dim if isinstance(dim, int) else 1 for dim in value.shape]
        for value in input_values(source)
        if value.shape and list(value.shape) != list(file_shape(value) or ())
    }
    opened = source.clone()
    reopen(opened)
    return opened, {**closed, **(stated or {})}


def load_notes(model: ir.Model) -> tuple[str, ...]:
    """What :func:`load` has changed that a user should know, in sentences."""
    return tuple(model.meta.get(NOTES, ()))


def add_notes(model: ir.Model, notes: Sequence[str]) -> None:
    """Add sentences to what :func:`load_notes` gives."""
    model.meta[NOTES] = (*load_notes(model), *notes)


def _name_nodes(model: ir.Model) -> None:
    seen: set[str] = set()
    for index, node in enumerate(model.graph):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def _leave_training_mode(model: ir.Model) -> list[str]:
    """Let BatchNormalization use its running statistics, as it does after ``eval()``; a sentence if any did not."""
    training = [
        node
        for node in model.graph.all_nodes()
        if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1
    ]
    for node in training:
        node.attributes.pop("training_mode")
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs[1:]):
            node.resize_outputs(1)
    if not training:
        return []
    return [
        f"{len(training)} BatchNormalization node(s) are in training mode ('{training[0].name}' first): the model was "
        "exported without eval(). They are computed with their running statistics here; export it again after eval() "
        "if that is not what was meant"
    ]


def _infer_shapes(model: ir.Model, place: str) -> None:
    """Infer shapes in place, first without the values of tensors, which damaged files can make arbitrarily long.

    Raises:
        ModelError: a tensor takes more than the memory in :class:`.Bounds`.
    """
    check_time("rewriting it")
    infer_shapes(model, data_prop=False)
    check_time("inferring shapes")
    memory = bounds().memory
    computed = (value for node in model.graph for value in node.outputs)
    for value in (*model.graph.inputs, *computed):
        if value.shape is None or value.dtype is None or value.dtype not in NUMBERS:
            continue
        size = int(math.prod(dim if isinstance(dim, int) else 1 for dim in value.shape) * value.dtype.itemsize)
        if size > memory:
            raise ModelError(
                f"{place}: tensor '{value.name}' of shape {list(value.shape)} takes {size:,} bytes, the limit is "
                f"{memory:,}; raise --max-memory if that is meant"
            )
    infer_shapes(model)
    check_time("inferring shapes")


def _refuse_inputs(model: ir.Model, place: str) -> None:
    if not input_values(model):
        raise ModelError(f"{place}: it has no input, so there is nothing to calibrate with; export it with its input")
    for value in input_values(model):
        if not isinstance(value.type, ir.TensorType) or value.dtype not in NUMBERS:
            kind = value.type if value.dtype is None else value.dtype
            raise ModelError(
                f"{place}: input '{value.name}' is {kind}; only numbers can be fed: cut the model behind it"
            )


def _refuse_weights(model: ir.Model, place: str) -> None:
    """NaN is never meant; infinity can be (the start of a Max, the score of what is masked), but not in a weight."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOATS:
            continue
        numbers = tensor.numpy().astype(np.float32, copy=False)
        trained = any(is_op(use.node, WEIGHTED_OPS | {"BatchNormalization"}) for use in value.uses())
        if np.isnan(numbers).any() or (trained and np.isinf(numbers).any()):
            readers = ", ".join(f"{use.node.op_type} '{use.node.name}'" for use in value.uses()) or "no node"
            raise ModelError(
                f"{place}: weight '{name}' of {readers} holds NaN or infinity; training has diverged, "
                "or the file is damaged"
            )


def _refuse_variances(model: ir.Model, place: str) -> None:
    for node in model.graph.all_nodes():
        variance = node.inputs[4] if is_op(node, {"BatchNormalization"}) and len(node.inputs) > 4 else None
        tensor = None if variance is None else variance.const_value
        if tensor is not None and (tensor.numpy().astype(np.float32) < 0).any():
            raise ModelError(
                f"{place}: BatchNormalization '{node.name}' has a negative running variance; the file is damaged: "
                "export it again"
            )


def load_quantized(source: ModelSource, input_shapes: InputShapes | None = None) -> ir.Model:
    """A quantized model, its Q and DQ as they are, with constants as initializers and shapes inferred.

    Raises:
        ModelError: it cannot be read, or is a float model.
    """
    with blamed_on_the_file(source), timed(source_name(source)):
        return _load_quantized(source, input_shapes)


def load_stored(source: ModelSource, input_shapes: InputShapes | None = None) -> ir.Model:
    """A model of which the weights alone may be quantized, as :func:`load_quantized` reads others.

    Raises:
        ModelError: it cannot be read.
    """
    with blamed_on_the_file(source), timed(source_name(source)):
        return _lifted(read_any(source), source, input_shapes)


def _load_quantized(source: ModelSource, input_shapes: InputShapes | None) -> ir.Model:
    return _lifted(read_checked(source, quantized=True), source, input_shapes)


def _lifted(model: ir.Model, source: ModelSource, input_shapes: InputShapes | None) -> ir.Model:
    InlinePass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _infer_shapes(model, source_name(source))
    if input_shapes:
        fix_inputs(model, input_shapes, source_name(source), keep=False)
    return model
