"""Model inputs: which is the main one, their shapes, the arrays that feed them.

The same rules serve a graph and a session of ONNX Runtime, so both are always fed alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError, did_you_mean
from dfq_deploy.graph.main_input import MAIN_INPUT, InputUse, says_auxiliary, says_main, uses_of
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.required_sizes import required_sizes

__all__ = [
    "CHANNELS",
    "MADE_UP",
    "NO_BATCH",
    "ExtraInputs",
    "Feeds",
    "InputShapes",
    "ModelInput",
    "closed_shape",
    "example_shape",
    "feeds_for",
    "has_batch_axis",
    "input_values",
    "is_channels_last",
    "looks_channels_last",
    "main_input",
    "main_input_value",
    "make_feeds",
    "model_inputs",
    "other_inputs",
    "sample_shape",
    "shown_dimension",
    "shown_shape",
    "state_main_input",
    "with_main",
]

ExtraInputs: TypeAlias = Mapping[str, NDArray[Any]]
"""Inputs beside the main one: name -> (N, ...), a row for each sample."""


CHANNELS = (1, 3, 4)
"""How many channels a picture has: grey, color, color with alpha."""


NO_BATCH = "dfq_deploy.no_batch"
"""Key of the metadata of a file: names of the inputs and outputs that have no batch, one a line."""


@dataclass(frozen=True)
class ModelInput:
    """One input.

    Args:
        name: of the tensor.
        dtype: as NumPy calls it, e.g. ``float32``, ``int64``, ``bool``.
        shape: with the batch; None where the rank is unknown, None in it where a dimension is open.
        is_main: it is known to be the main input.
        use: what the graph does with it, where that is known.
        added_batch: the model takes one sample at a time, without the batch of 1 that ``shape`` begins with.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    is_main: bool = False
    use: InputUse = field(default=InputUse(), compare=False)
    added_batch: bool = False

    def with_added_batch(self) -> "ModelInput":
        """The input of a model without a batch, as one with a batch of 1."""
        return replace(self, shape=None if self.shape is None else (1, *self.shape), added_batch=True)

    @property
    def is_float(self) -> bool:
        """True for every width of float."""
        return self.dtype in ("float16", "float32", "float64", "bfloat16")

    @property
    def sample(self) -> tuple[int | None, ...]:
        """Shape of one sample: without the batch."""
        return (self.shape or ())[1:]


def main_input(ports: Sequence[ModelInput]) -> ModelInput:
    """What samples are made for.

    Rules: (1) the one that is known to be it; (2) not a cache or a state, by its use
    (:class:`dfq_deploy.graph.main_input.InputUse`); (3) not what its name calls a mask, a length, a cache or the like;
    then, one after the other: (4) floats, and pictures of bytes (N, C, H, W) or (N, H, W, C), (5) what a weighted
    operator reads before anything else is mixed in, (6) rank 4, (7) a picture of floats before one of bytes, (8) what
    has a batch, (9) a name such as ``image`` or ``input_ids``, (10) the order.
    """

    def rank(port: ModelInput) -> tuple[bool, ...]:
        size = None if port.shape is None else len(port.shape)
        picture = size == 4 and port.dtype == "uint8"
        values = port.is_float or picture
        beside = (not port.is_main, port.use.carried, says_auxiliary(port.name))
        kind = (not values, not port.use.leads, not (values and size == 4), picture, size == 0)
        return (*beside, *kind, not says_main(port.name))

    return min(ports, key=rank)


def with_main(ports: Sequence[ModelInput], name: str | None) -> list[ModelInput]:
    """``ports`` with the one of that name as the main input; as they are where there is none of it."""
    return [replace(port, is_main=port.name == name) for port in ports]


def other_inputs(ports: Sequence[ModelInput]) -> list[ModelInput]:
    """All but the main one, in order."""
    main = main_input(ports)
    return [port for port in ports if port is not main]


def has_batch_axis(port: ModelInput, main: ModelInput) -> bool:
    """True where an input has one row for each sample: its first dimension is open, or as long as the main one's."""
    if not port.shape:
        return False
    batch = main.shape[0] if main.shape else None
    return port.shape[0] is None or port.shape[0] == batch


def make_feeds(ports: Sequence[ModelInput], images: NDArray[Any], extra: ExtraInputs) -> dict[str, NDArray[Any]]:
    """One batch as ONNX Runtime takes it: every input by name, in its own type.

    Args:
        ports: all inputs of the model.
        images: (N, ...), for the main input.
        extra: (N, ...) for each of the others; one that has no batch is fed its first row.

    Raises:
        SamplesError: there is nothing for an input.
    """
    main = main_input(ports)
    feeds = {main.name: _typed(images, main.dtype)}
    for port in other_inputs(ports):
        if port.name not in extra:
            raise SamplesError(
                f"samples: nothing for input '{port.name}' ({port.dtype}); save it in the .npz as 'input:{port.name}'"
            )
        rows = extra[port.name]
        if not has_batch_axis(port, main):  # its batch, if any, stands on another axis, and is 1
            rows = rows[:1] if port.shape is not None and rows.ndim == len(port.shape) else rows[0]
        feeds[port.name] = _typed(rows, port.dtype)
    return {port.name: feeds[port.name][0] if port.added_batch else feeds[port.name] for port in ports}


def _typed(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    return np.asarray(array).astype(dtype, copy=False)


def looks_channels_last(shape: Sequence[int]) -> bool:
    """True where one sample of ``shape`` is a picture (H, W, C): as many channels stand last, and not first."""
    return len(shape) == 3 and shape[-1] in CHANNELS and shape[0] not in CHANNELS


Feeds = Mapping[str, NDArray[Any]]
"""One batch: input name -> array, as ONNX Runtime takes it."""


InputShapes: TypeAlias = Mapping[str, Sequence[int]]
"""Input name -> shape with the batch, e.g. ``{"image": (1, 3, 224, 224)}``."""


MADE_UP = re.compile(r"unk__\d+|p2o\.DynamicDimension\.\d+|\w+_dynamic_axes_\d+|None|s\d+")
"""Names that tf2onnx, Paddle2ONNX and torch give to dimensions that have none."""


def input_values(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller feeds: initializers that are also listed as inputs are left out."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def model_inputs(model: ir.Model) -> list[ModelInput]:
    """The inputs that a caller feeds, as :mod:`dfq_deploy.graph.inputs` takes them; one of several is the main one."""
    values = input_values(model)
    alone = model.metadata_props.get(NO_BATCH, "").split("\n")
    ports = [_port(value).with_added_batch() if value.name in alone else _port(value) for value in values]
    if len(ports) < 2:
        return ports
    known = model.metadata_props.get(MAIN_INPUT)
    if known not in [port.name for port in ports]:
        uses = uses_of(model.graph, values)
        known = main_input([replace(port, use=uses[port.name]) for port in ports]).name
    return with_main(ports, known)


def state_main_input(model: ir.Model, name: str | None = None) -> None:
    """Keep in the metadata of ``model`` which of its inputs is the main one, where it has several.

    Args:
        name: of that input; None takes the one of :func:`main_input`.

    Raises:
        ModelError: there is no input of that name.
    """
    ports = model_inputs(model)
    names = [port.name for port in ports]
    if name is not None and name not in names:
        way_out = did_you_mean(name, names, "the model's inputs")
        raise ModelError(f"--main-input {name}: no such input{way_out}")
    if len(ports) > 1:
        model.metadata_props[MAIN_INPUT] = name or main_input(ports).name


def feeds_for(model: ir.Model, images: NDArray[np.generic], extra: ExtraInputs) -> dict[str, NDArray[np.generic]]:
    """One batch as ONNX Runtime takes it (:func:`dfq_deploy.graph.inputs.make_feeds`)."""
    return make_feeds(model_inputs(model), images, extra)


def _port(value: ir.Value) -> ModelInput:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape)
    dtype = ir.DataType.FLOAT if value.dtype is None else value.dtype
    return ModelInput(str(value.name), str(dtype.numpy()), shape)


def main_input_value(model: ir.Model) -> ir.Value:
    """The main input (:func:`main_input`)."""
    name = main_input(model_inputs(model)).name
    return next(value for value in input_values(model) if value.name == name)


def sample_shape(model: ir.Model) -> tuple[int, ...]:
    """Shape of one sample, (C, H, W) or (H, W, C) for images: the main input's shape without the batch.

    Raises:
        ModelError: the shape is unknown, or open anywhere but in the batch.
    """
    return closed_shape(main_input_value(model))


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
    """A dimension for people: ``?`` where it has no name, or a converter has made its name up."""
    return "?" if dim == "None" or MADE_UP.fullmatch(dim) else dim


def example_shape(value: ir.Value) -> str:
    """What ``--input-shape`` could be given, ``NAME:1,3,224,224``."""
    dims = [1, 3, 224, 224] if value.shape is None else list(value.shape)
    known = required_sizes(value)
    sizes = [str(dim if isinstance(dim, int) else known.get(axis, 224)) for axis, dim in enumerate(dims) if axis]
    return f"{value.name}:{','.join(['1', *sizes])}"


def is_channels_last(model: ir.Model) -> bool:
    """True where the main input is a picture (N, H, W, C): its shape says so, or the Transpose right behind it."""
    value = main_input_value(model)
    if value.shape is None or len(value.shape) != 4:
        return False
    seen = value
    while len(seen.uses()) == 1 and is_op(next(iter(seen.uses())).node, ("Cast", "Identity")):
        seen = next(iter(seen.uses())).node.outputs[0]
    readers = [use.node for use in seen.uses()]
    moves = {tuple(node.attributes.get_ints("perm", ()) or ()) for node in readers if is_op(node, "Transpose")}
    if len(readers) == 1 and moves == {(0, 3, 1, 2)}:
        return True
    if any(is_op(node, "Conv") for node in readers) or (len(readers) == 1 and moves == {(0, 2, 3, 1)}):
        return False
    return looks_channels_last([dim if isinstance(dim, int) else 0 for dim in value.shape[1:]])
