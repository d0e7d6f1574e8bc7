"""Load teachers, including those with a different preprocess."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import ModelError, OptionError, did_you_mean
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.inputs import InputShapes, is_channels_last, main_input_value, sample_shape
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.torch_export import TorchSource, exported
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess, as_preprocess

__all__ = ["Teacher", "TeacherSource", "parse_teacher", "read_teacher", "renormalized"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher whose preprocess differs from that of the model.

    Args:
        model: a path, an ONNX model, a torch module or program, as for :func:`dfq_deploy.synthesize`.
        preprocess: of this teacher, as an object or a name (:func:`dfq_deploy.samples.preprocess.as_preprocess`).
    """

    model: "ModelSource | TorchSource"
    preprocess: Preprocess | str

    def __post_init__(self) -> None:
        preprocess = as_preprocess(self.preprocess)
        if preprocess is None:
            raise OptionError(
                "Teacher: preprocess is None; pass a teacher with the model's preprocess as a plain model"
            )
        object.__setattr__(self, "preprocess", preprocess)


TeacherSource: TypeAlias = "Teacher | ModelSource | TorchSource"
"""A teacher; one that is not a :class:`Teacher` takes the same input as the model. :func:`parse_teacher` reads text."""


def parse_teacher(text: str) -> Teacher | Path:
    """Parse ``FILE`` or ``FILE:PREPROCESS``, a name in :data:`PREPROCESSES` or ``MEANS/STDS``, e.g. ``0.5/0.25``.

    Raises:
        OptionError: the text after the colon is not a preprocess.
    """
    head, colon, tail = text.rpartition(":")
    if not colon or not head or Path(text).exists() or "\\" in tail:  # C:\teacher.onnx has a drive
        return Path(text)
    try:
        return Teacher(Path(head), tail)
    except OptionError:
        raise OptionError(
            f"--teacher '{text}': '{tail}' is not a preprocess{did_you_mean(tail, PREPROCESSES, 'choose one of')}; "
            "means and standard deviations are written 0.5,0.5,0.5/0.2,0.2,0.2"
        ) from None


def read_teacher(
    teacher: TeacherSource,
    preprocess: Preprocess | None,
    input_shape: Sequence[int] | None = None,
    input_shapes: InputShapes | None = None,
) -> ir.Model:
    """Load a teacher as a graph that takes the same input as the model.

    Args:
        preprocess: that of the model.
        input_shape, input_shapes: as in :func:`dfq_deploy.synthesize`.

    Raises:
        ModelError: it cannot be read, or its own preprocess is given and that of the model is not.
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
            "--teacher FILE:PREPROCESS sets the preprocess of the teacher, but that of the model is not given; give "
            "--preprocess too"
        )
    return renormalized(model, preprocess, own)


def renormalized(model: ir.Model, new: Preprocess, original: Preprocess) -> ir.Model:
    """A copy of ``model`` that takes input normalised by ``new`` instead of ``original``, through a Mul and an Add.

    Returns the model itself if the two are equal.

    Raises:
        ModelError: the main input is not a float image, or has another number of channels than the preprocesses.
    """
    main = main_input_value(model)
    shape = sample_shape(model)
    if len(shape) != 3 or main.dtype != ir.DataType.FLOAT:
        raise ModelError(f"teacher input '{main.name}' is not a float32 image, so it cannot have its own preprocess")
    channels_last = is_channels_last(model)
    channels = shape[-1] if channels_last else shape[0]
    (new_low, new_high), (original_low, original_high) = new.bounds(channels), original.bounds(channels)
    scale = (original_high - original_low).astype(np.float64) / (new_high - new_low)
    offset = original_low - new_low * scale
    if np.allclose(scale, 1, atol=1e-6) and np.allclose(offset, 0, atol=1e-6):
        return model
    model = model.clone()
    main = main_input_value(model)
    names = Names(model.graph)
    value = main
    nodes = []
    for op_type, numbers in (("Mul", scale), ("Add", offset)):
        array = numbers.astype(np.float32).reshape((-1,) if channels_last else (-1, 1, 1))
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
