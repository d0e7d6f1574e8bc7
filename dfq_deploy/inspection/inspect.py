"""Inspect a model: ``dfq_deploy.inspect``."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from dfq_deploy.errors import ModelError, UnsupportedOperators
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.graph.file_shapes import file_shape
from dfq_deploy.graph.inputs import (
    InputShapes,
    input_values,
    main_input,
    main_input_value,
    model_inputs,
    other_inputs,
    shown_dimension,
    state_main_input,
)
from dfq_deploy.graph.large_models import message_bytes, skeleton
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.operators import FLOATS, STANDARD_DOMAINS, WEIGHTED_OPS, is_op, operator_of
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.query import batch_normalizations, parameter_count, score_count
from dfq_deploy.graph.reading import ModelSource, blames_the_file
from dfq_deploy.graph.task import state_task
from dfq_deploy.graph.torch_export import TorchSource, exported
from dfq_deploy.inspection.advice import (
    Advice,
    input_advice,
    kernel_advice,
    statistics_notes,
    target_advice,
    target_notes,
    twin_advice,
)
from dfq_deploy.inspection.estimate import estimated_kernels
from dfq_deploy.plugins.registry import find_plugin, installed_plugins
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.procedural.inputs import is_drawn, rule_of
from dfq_deploy.targets.catalog import find_target

if TYPE_CHECKING:
    from dfq_deploy.verdict.noise.what_hurts import WhatHurts

__all__ = ["Inspection", "MethodFit", "TensorInfo", "inspect"]

QDQ_BYTES = 700
"""About what a Q/DQ pair takes in the file: two nodes, their names, the types of what they write, and two scalars."""

BIAS_SCALE_BYTES = 8
"""A float32 scale and an int32 zero point for each value of a bias."""

CHANNEL_BYTES = 5
"""A float32 scale and an int8 zero point for each output channel."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output; open dimensions have their name, or ``?``."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class MethodFit:
    """A synthesis method and whether it applies to the model; ``reason`` says why not."""

    name: str
    applies: bool
    reason: str


@dataclass(frozen=True)
class Inspection:
    """The result of :func:`inspect`.

    Args:
        name: of the file or graph.
        opset: version of the default domain in the file.
        producer: the tool that wrote the file, with its version.
        file_bytes, quantized_bytes: size now, external data included, and an estimate of the size after quantization.
        parameters: number of elements in float initializers.
        inputs, outputs: what is fed and what comes out.
        drawn: a sentence for each input that is drawn by rule instead of synthesized.
        classes: number of class scores; None where there are none.
        operators: how many nodes of each operator, most frequent first.
        batch_normalizations, foldable: how many are left in the graph, and how many of those fold into weights.
        target: the runtime that the next two are about.
        weighted, left_float: how many convolutions and matrix products there are; name, operator and reason of
            those that the target leaves in float.
        kernels: the layers of the quantized file as they will run.
        unknown: name and operator of each node that the twin does not support.
        methods: the synthesis methods that are installed.
        advice: problems, each with the way out.
        notes: changes made by loading; nothing needs to be done.
        sensitivity: noise of each quantized layer, if requested.
    """

    name: str
    opset: int
    producer: str
    file_bytes: int
    quantized_bytes: int
    parameters: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    drawn: tuple[str, ...]
    classes: int | None
    operators: dict[str, int]
    batch_normalizations: int
    foldable: int
    target: str
    weighted: int
    left_float: tuple[tuple[str, str, str], ...]
    kernels: KernelCount
    unknown: tuple[tuple[str, str], ...]
    methods: tuple[MethodFit, ...]
    advice: tuple[Advice, ...]
    notes: tuple[str, ...] = ()
    sensitivity: "WhatHurts | None" = None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it; ``sensitivity`` is included if requested."""
        plain = asdict(replace(self, sensitivity=None))
        plain["kernels"] = self.kernels.to_json()
        del plain["sensitivity"]
        if self.sensitivity is not None:
            plain["sensitivity"] = self.sensitivity.to_json()
        plain["left_float"] = [dict(zip(("name", "operator", "reason"), row, strict=True)) for row in self.left_float]
        plain["unknown"] = [dict(zip(("name", "operator"), row, strict=True)) for row in self.unknown]
        return plain


@blames_the_file
def inspect(
    model: "ModelSource | TorchSource",
    *,
    target: str = "cpu",
    input_shape: tuple[int, ...] | None = None,
    input_shapes: InputShapes | None = None,
    main_input: str | None = None,
    task: str | None = None,
    sensitivity: bool = False,
    bits: str | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Inspection:
    """Inspect a float model.

    Args:
        target: the runtime to inspect it for.
        input_shape: of one sample, e.g. (3, 224, 224), if the model is a torch module.
        input_shapes: input name -> its shape with the batch, for inputs whose size is open.
        main_input, task: which input is the main one, and what the model does, where that is not to be found out.
        sensitivity: quantize each layer alone with samples drawn by rule, and say which would hurt.
        bits, preprocess, seed: of ``sensitivity`` (:func:`dfq_deploy.inspection.sensitivity.layer_sensitivity`).

    Raises:
        ModelError: it cannot be read at all, is quantized already, holds NaN, or has no input of a name that is given.
        TargetError: the target is unknown, or refused.
    """
    chosen = find_target(target)
    model = exported(model, input_shape)
    loaded = _loaded(model, input_shapes)
    state_main_input(loaded, main_input)
    state_task(loaded, task)
    foldable = len(fold_batch_normalization(loaded.clone()))
    prepared = prepare(loaded, chosen)
    folded, placement = prepared.model, prepared.placement
    left = len(batch_normalizations(folded))
    kernels = estimated_kernels(folded, placement, chosen)
    size = _stored(model)
    bns = len(batch_normalizations(loaded))
    unknown, refusal = _twin_problems(loaded)
    drawn = any(is_drawn(port) for port in model_inputs(loaded) if port.name == main_input_value(loaded).name)
    noise = None
    if sensitivity:
        from dfq_deploy.inspection.sensitivity import layer_sensitivity

        noise = layer_sensitivity(loaded, target=target, bits=bits, preprocess=preprocess, seed=seed, progress=progress)
    return Inspection(
        name=Path(model).name if isinstance(model, str | PathLike) else str(loaded.graph.name or "model"),
        opset=_opset(model),
        producer=" ".join(filter(None, (loaded.producer_name, loaded.producer_version))) or "unknown",
        file_bytes=size,
        quantized_bytes=_estimate(folded, placement, size),
        parameters=parameter_count(value for value in loaded.graph.initializers.values() if value.dtype in FLOATS),
        inputs=_tensor_infos(input_values(loaded)),
        outputs=_tensor_infos(loaded.graph.outputs),
        drawn=_drawn(loaded),
        classes=score_count(loaded),
        operators=dict(Counter(operator_of(node) for node in loaded.graph.all_nodes()).most_common()),
        batch_normalizations=bns,
        foldable=foldable,
        target=chosen.name,
        weighted=sum(is_op(node, WEIGHTED_OPS) for node in folded.graph.all_nodes()),
        left_float=placement.left_float,
        kernels=kernels,
        unknown=unknown,
        methods=_methods(bns > 0, drawn, _is_image(loaded)),
        advice=(
            *input_advice(loaded),
            *twin_advice(unknown, refusal),
            *target_advice(placement, chosen),
            *kernel_advice(kernels),
        ),
        notes=(*load_notes(loaded), *(() if drawn else statistics_notes(bns)), *target_notes(left)),
        sensitivity=noise,
    )


def _drawn(model: ir.Model) -> tuple[str, ...]:
    """How inputs that are not images are drawn; those of open size, which :func:`input_advice` names, are left out."""
    ports = model_inputs(model)
    others = other_inputs(ports)
    sentences = []
    for port in ports:
        if port not in others and not is_drawn(port):
            continue
        try:
            sentences.append(str(rule_of(model, port, {})))
        except ModelError:
            continue
    return tuple(sentences)


def _tensor_infos(values: Iterable[ir.Value]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            str(value.name),
            "unknown" if value.dtype is None else value.dtype.name.lower(),
            None if shape is None else tuple(d if isinstance(d, int) else shown_dimension(str(d.value)) for d in shape),
        )
        for value in values
        for shape in [file_shape(value)]
    )


def _loaded(model: ModelSource, input_shapes: InputShapes | None) -> ir.Model:
    """The model with sizes to look at it with; as it is where none of them runs, which the advice says then."""
    try:
        return load_sized(model, input_shapes)
    except ModelError:
        return load(model, input_shapes=input_shapes)


def _proto(model: ModelSource) -> onnx.ModelProto:
    if isinstance(model, ir.Model):
        return skeleton(model)[0]
    return model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)


def _opset(model: ModelSource) -> int:
    return next((int(entry.version) for entry in _proto(model).opset_import if entry.domain in STANDARD_DOMAINS), 0)


def _stored(model: ModelSource) -> int:
    if isinstance(model, str | PathLike):
        return stored_bytes(Path(model))
    return message_bytes(model if isinstance(model, ir.Model) else ir.from_proto(model))


def _estimate(model: ir.Model, placement: Placement, size: int) -> int:
    """Estimate of the size of the quantized file: integer weights, and the Q/DQ nodes."""
    saved = 0
    for name, (qtype, axis) in placement.weights.items():
        tensor = model.graph.initializers[name].const_value
        if tensor is not None:
            channels = 1 if axis is None else tensor.shape.numpy()[axis]
            saved += tensor.nbytes - tensor.size * qtype.bits // 8 - channels * CHANNEL_BYTES - QDQ_BYTES // 2
    biases = [model.graph.initializers.get(name) for name in placement.biases]
    scales = sum(value.const_value.size for value in biases if value is not None and value.const_value is not None)
    added = QDQ_BYTES * len(placement.activations) + QDQ_BYTES // 2 * len(biases) + BIAS_SCALE_BYTES * scales
    return max(0, size - saved + added)


def _twin_problems(model: ir.Model) -> tuple[tuple[tuple[str, str], ...], str]:
    """The operators that the twin does not support, or another reason why it cannot be built."""
    from dfq_deploy.twin import Twin

    try:
        Twin.from_model(model)
    except UnsupportedOperators as problem:
        return problem.nodes, ""
    except ModelError as problem:
        return (), str(problem)
    return (), ""


def _is_image(model: ir.Model) -> bool:
    """True if the main input may be an image of one or three channels; its size may be open."""
    sample = main_input(model_inputs(model)).sample
    return len(sample) == 3 and not {sample[0], sample[-1]}.isdisjoint((1, 3))


def _methods(statistics: bool, drawn: bool, image: bool) -> tuple[MethodFit, ...]:
    """Which methods apply; ``drawn``: the main input holds integers, which no method synthesizes."""
    fits = []
    integers = "makes floats: integers are procedural, whatever --synth says"
    for plugin in installed_plugins():
        if plugin.kind != "synthesizers":
            continue
        if plugin.problem:
            fits.append(MethodFit(plugin.name, False, plugin.problem))
        elif drawn:
            fits.append(MethodFit(plugin.name, False, integers))
        elif find_plugin(plugin.kind, plugin.name).needs_image and not image:
            fits.append(MethodFit(plugin.name, False, "needs an image of 1 or 3 channels"))
        elif statistics or not find_plugin(plugin.kind, plugin.name).needs_statistics:
            fits.append(MethodFit(plugin.name, True, ""))
        else:
            fits.append(MethodFit(plugin.name, False, "needs BatchNormalization: give --teacher"))
    return tuple(fits)
