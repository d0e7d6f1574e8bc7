"""Load a float ONNX model, check it, and find what matters in it.

The model is an :class:`onnx_ir.Model` everywhere after :func:`load`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.constants import fold_constants
from dfq_deploy.errors import ModelError
from dfq_deploy.messages import fits, weight_bytes
from dfq_deploy.ports import Extra, Port, channels_last, feeds_of, main_port
from dfq_deploy.reading import MINIMUM_OPSET, ModelSource, place_of, read_checked
from dfq_deploy.shapes import fix_inputs
from dfq_deploy.widening import widen

__all__ = [
    "MINIMUM_OPSET",
    "WEIGHTED_OPS",
    "InputShapes",
    "ModelSource",
    "batch_normalizations",
    "closed_shape",
    "constant_of",
    "example_shape",
    "feeds",
    "image_input",
    "inputs",
    "is_channels_last",
    "load",
    "notes",
    "parameter_count",
    "ports",
    "sample_shape",
    "score_count",
    "shown_dimension",
    "shown_shape",
    "to_bytes",
    "weighted",
    "weighted_after",
]

InputShapes: TypeAlias = Mapping[str, Sequence[int]]
"""Input name -> shape with the batch, e.g. ``{"image": (1, 3, 224, 224)}``."""

MADE_UP = re.compile(r"unk__\d+|p2o\.DynamicDimension\.\d+|\w+_dynamic_axes_\d+|None|s\d+")
"""Names that tf2onnx, Paddle2ONNX and torch give to dimensions that have none."""

NOTES = "dfq_deploy.notes"

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})

NUMBERS = FLOATS | {
    *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL, None),
    *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
}
"""Element types that NumPy can feed."""


def load(source: ModelSource, *, input_shapes: InputShapes | None = None) -> ir.Model:
    """Read, check, upgrade and shape-infer a float model.

    Model-local functions are inlined, Constant nodes and what depends on constants alone become initializers
    (:mod:`dfq_deploy.constants`), every node has a name, an opset below 13 is converted, and other widths of float
    become float32 (:mod:`dfq_deploy.widening`). A model that is handed over in memory is copied first. :func:`notes`
    says what a user should know of it.

    Args:
        source: a path, or a model in memory.
        input_shapes: input name -> its shape with the batch, for inputs whose size is open.

    Raises:
        ModelError: the file is missing, is not ONNX, lacks its external data, fails the checker, is
            quantized already, has an input that no array can feed, or holds NaN or infinite weights.
    """
    place = place_of(source)
    model = read_checked(source)
    InlinePass()(model)
    lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(model)
    if fold_constants(model):
        lift(model)
    _name_nodes(model)
    said = [
        f"the model is {' and '.join(widths)}: computed and quantized as float32; inputs and outputs keep their type"
        for widths in [widen(model)]
        if widths
    ]
    if input_shapes:
        said += fix_inputs(model, input_shapes, place)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    _refuse_inputs(model, place)
    _refuse_weights(model, place)
    model.meta[NOTES] = tuple(said)
    return model


def notes(model: ir.Model) -> tuple[str, ...]:
    """What :func:`load` has changed that a user should know, in sentences."""
    return tuple(model.meta.get(NOTES, ()))


def _name_nodes(model: ir.Model) -> None:
    seen: set[str] = set()
    for index, node in enumerate(model.graph):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def _refuse_inputs(model: ir.Model, place: str) -> None:
    if not inputs(model):
        raise ModelError(f"{place}: it has no input, so there is nothing to calibrate with; export it with its input")
    for value in inputs(model):
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
        trained = any(use.node.op_type in WEIGHTED_OPS | {"BatchNormalization"} for use in value.uses())
        if np.isnan(numbers).any() or (trained and np.isinf(numbers).any()):
            readers = ", ".join(f"{use.node.op_type} '{use.node.name}'" for use in value.uses()) or "no node"
            raise ModelError(
                f"{place}: weight '{name}' of {readers} holds NaN or infinity; training has diverged, "
                "or the file is damaged"
            )


def inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller feeds: initializers that are also listed as inputs are left out."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def ports(model: ir.Model) -> list[Port]:
    """The inputs that a caller feeds, as :mod:`dfq_deploy.ports` takes them."""
    return [_port(value) for value in inputs(model)]


def feeds(model: ir.Model, images: NDArray[np.generic], extra: Extra) -> dict[str, NDArray[np.generic]]:
    """One batch as ONNX Runtime takes it (:func:`dfq_deploy.ports.feeds_of`)."""
    return feeds_of(ports(model), images, extra)


def _port(value: ir.Value) -> Port:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape)
    dtype = ir.DataType.FLOAT if value.dtype is None else value.dtype
    return Port(str(value.name), str(dtype.numpy()), shape)


def image_input(model: ir.Model) -> ir.Value:
    """The main input: the first float one, preferring one of rank 4 (:func:`dfq_deploy.ports.main_port`)."""
    name = main_port(ports(model)).name
    return next(value for value in inputs(model) if value.name == name)


def sample_shape(model: ir.Model) -> tuple[int, ...]:
    """Shape of one sample, (C, H, W) or (H, W, C) for images: the main input's shape without the batch.

    Raises:
        ModelError: the shape is unknown, or open anywhere but in the batch.
    """
    return closed_shape(image_input(model))


def closed_shape(value: ir.Value) -> tuple[int, ...]:
    """Shape of one sample of an input.

    Raises:
        ModelError: it is unknown, or open anywhere but in the batch.
    """
    dims = None if value.shape is None else list(value.shape)
    if dims is None or not all(isinstance(dim, int) and dim > 0 for dim in dims[1:]):
        raise ModelError(
            f"input '{value.name}': shape {shown_shape(value)} is open beyond the batch; fix it, e.g. --input-shape "
            f"{example_shape(value)}, or export the model with a fixed size"
        )
    return tuple(dim for dim in dims[1:] if isinstance(dim, int))


def shown_shape(value: ir.Value) -> str:
    """The shape for people, ``(batch, 3, side, side)``."""
    return "unknown" if value.shape is None else f"({', '.join(shown_dimension(str(dim)) for dim in value.shape)})"


def shown_dimension(dim: str) -> str:
    """A dimension for people: ``?`` where a converter has made its name up."""
    return "?" if MADE_UP.fullmatch(dim) else dim


def example_shape(value: ir.Value) -> str:
    """What ``--input-shape`` could be given, ``NAME:1,3,224,224``."""
    dims = [1, 3, 224, 224] if value.shape is None else list(value.shape)
    return f"{value.name}:{','.join(['1', *(str(dim) if isinstance(dim, int) else '224' for dim in dims[1:])])}"


def is_channels_last(model: ir.Model) -> bool:
    """True where the main input is a picture (N, H, W, C): its shape says so, or the Transpose right behind it."""
    value = image_input(model)
    if value.shape is None or len(value.shape) != 4:
        return False
    seen = value
    while len(seen.uses()) == 1 and next(iter(seen.uses())).node.op_type in ("Cast", "Identity"):
        seen = next(iter(seen.uses())).node.outputs[0]
    readers = [use.node for use in seen.uses()]
    moves = {tuple(node.attributes.get_ints("perm", ()) or ()) for node in readers if node.op_type == "Transpose"}
    if len(readers) == 1 and moves == {(0, 3, 1, 2)}:
        return True
    if any(node.op_type == "Conv" for node in readers) or (len(readers) == 1 and moves == {(0, 2, 3, 1)}):
        return False
    return channels_last([dim if isinstance(dim, int) else 0 for dim in value.shape[1:]])


def score_count(model: ir.Model) -> int | None:
    """Number of classes where the first output is one row of scores for each sample, else None."""
    shape = model.graph.outputs[0].shape if model.graph.outputs else None
    if shape is None:
        return None
    dims = [dim for dim in list(shape)[1:] if dim != 1]
    return dims[0] if len(dims) == 1 and isinstance(dims[0], int) and dims[0] > 1 else None


def batch_normalizations(model: ir.Model) -> list[ir.Node]:
    """The BatchNormalization nodes, in order."""
    return [node for node in model.graph if node.op_type == "BatchNormalization"]


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant that an initializer holds; None for anything computed or fed."""
    if value is None or value.producer() is not None or not value.is_initializer():
        return None
    return value.const_value


def weighted(model: ir.Model) -> list[ir.Node]:
    """Convolutions and matrix products whose second input is a constant, in order."""
    return [
        node
        for node in model.graph
        if node.op_type in WEIGHTED_OPS and len(node.inputs) > 1 and constant_of(node.inputs[1]) is not None
    ]


def weighted_after(node: ir.Node) -> bool:
    """True if a convolution or matrix product reads ``node``'s output, however far down."""
    seen: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for reader in waiting.pop().successors():
            if reader.op_type in WEIGHTED_OPS:
                return True
            if reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return False


def parameter_count(values: Iterable[ir.Value]) -> int:
    """Number of elements in the constants among ``values``."""
    return sum(tensor.size for value in values if (tensor := constant_of(value)) is not None)


def to_bytes(model: ir.Model) -> bytes:
    """The serialized model with its weights, for what takes nothing else.

    Raises:
        ModelError: they take more than 2 GB, which no message holds.
    """
    if not fits(model):
        raise ModelError(
            f"the model '{model.graph.name}' has {weight_bytes(model) / 1e9:.1f} GB of weights, and this step takes it "
            "in one message of at most 2 GB; calibrate it for --target cpu, or its parts (onnx.utils.extract_model)"
        )
    return bytes(ir.to_proto(model).SerializeToString())
