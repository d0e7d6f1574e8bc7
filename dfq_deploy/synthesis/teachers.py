"""Read teachers, also with a preprocess of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.inputs import InputShapes, is_channels_last, main_input_value, sample_shape
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess, as_preprocess

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["Teacher", "TeacherSource", "parse_teacher", "read_teacher", "renormalized"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher with what turns pixels into its own input.

    Args:
        model: as everywhere.
        preprocess: of this teacher; a name does too (:func:`dfq_deploy.samples.preprocess.as_preprocess`).
    """

    model: "ModelSource | Module"
    preprocess: Preprocess | str

    def __post_init__(self) -> None:
        known = as_preprocess(self.preprocess)
        if known is None:
            raise OptionError("Teacher: no preprocess is given; a teacher of the model's own is given bare")
        object.__setattr__(self, "preprocess", known)


TeacherSource: TypeAlias = "Teacher | ModelSource | Module"
"""A teacher; one that comes bare takes the same input as the model. Text is read by :func:`parse_teacher`."""


def parse_teacher(text: str) -> Teacher | Path:
    """``FILE``, or ``FILE:PREPROCESS`` with a name of :data:`PREPROCESSES` or ``MEANS/STDS``, e.g. ``0.5/0.25``.

    Raises:
        OptionError: what follows the colon is no preprocess.
    """
    head, colon, tail = text.rpartition(":")
    if not colon or not head or Path(text).exists() or "\\" in tail:  # C:\teacher.onnx has a drive
        return Path(text)
    try:
        return Teacher(Path(head), tail)
    except OptionError:
        raise OptionError(
            f"--teacher '{text}': '{tail}' is no preprocess; write {', '.join(PREPROCESSES)} or means and standard "
            "deviations as 0.5,0.5,0.5/0.2,0.2,0.2"
        ) from None


def read_teacher(
    teacher: TeacherSource,
    preprocess: Preprocess | None,
    input_shape: Sequence[int] | None = None,
    input_shapes: InputShapes | None = None,
) -> ir.Model:
    """A teacher as a graph that takes what the model takes.

    Args:
        preprocess: the model's.
        input_shape, input_shapes: as :func:`dfq_deploy.synthesize` takes them.

    Raises:
        ModelError: it cannot be read, or its own preprocess is given and the model's is not.
    """
    shape = None if input_shape is None else tuple(input_shape)
    if isinstance(teacher, str):
        teacher = parse_teacher(teacher)
    if not isinstance(teacher, Teacher):
        return load_sized(exported(teacher, shape), input_shapes)
    model = load_sized(exported(teacher.model, shape), input_shapes)
    own = as_preprocess(teacher.preprocess)
    if preprocess is None or own is None:
        raise ModelError(
            "--teacher FILE:PREPROCESS says how the teacher's input is normalised, and nothing says how the model's "
            "is; give --preprocess too"
        )
    return renormalized(model, preprocess, own)


def renormalized(model: ir.Model, given: Preprocess, own: Preprocess) -> ir.Model:
    """``model`` on input that is normalised by ``given`` instead of ``own``, through a Mul and an Add; a copy.

    The same model where the two are the same.

    Raises:
        ModelError: the main input is neither a float image nor one that has as many channels as the preprocesses.
    """
    main = main_input_value(model)
    shape = sample_shape(model)
    if len(shape) != 3 or main.dtype != ir.DataType.FLOAT:
        raise ModelError(f"teacher input '{main.name}' is no float32 image, so no preprocess of its own can be given")
    last = is_channels_last(model)
    channels = shape[-1] if last else shape[0]
    (given_low, given_high), (own_low, own_high) = given.bounds(channels), own.bounds(channels)
    scale = (own_high - own_low).astype(np.float64) / (given_high - given_low)
    offset = own_low - given_low * scale
    if np.allclose(scale, 1, atol=1e-6) and np.allclose(offset, 0, atol=1e-6):
        return model
    model = model.clone()
    main = main_input_value(model)
    names = Names(model.graph)
    value = main
    nodes = []
    for op_type, numbers in (("Mul", scale), ("Add", offset)):
        array = numbers.astype(np.float32).reshape((-1,) if last else (-1, 1, 1))
        constant = add_constant(model.graph, names.fresh(f"{main.name}_{op_type}_by"), array)
        node = ir.node(op_type, [value, constant], name=names.fresh(f"{main.name}_{op_type}"))
        node.outputs[0].name, node.outputs[0].type = names.fresh(f"{node.name}_output"), main.type
        node.outputs[0].shape = main.shape
        nodes.append(node)
        value = node.outputs[0]
    main.replace_all_uses_with(value)
    nodes[0].replace_input_with(0, main)
    model.graph.insert_before(next(iter(model.graph)), nodes)
    return model
