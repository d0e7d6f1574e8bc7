"""Measure how a network responds to samples: its first layer, and its answers."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.sample_quality import information_of, probabilities
from dfq_deploy.graph.query import constant_of, score_logits, weighted_nodes
from dfq_deploy.runtime.activations import activations
from dfq_deploy.runtime.runner import Runner, slices
from dfq_deploy.samples.batches import SampleBatches
from dfq_deploy.samples.samples import Samples

__all__ = [
    "bias_of",
    "class_probabilities",
    "information",
    "informations",
    "label_hits",
    "moments",
    "response_to_bias",
]

Floats = NDArray[np.float64]

DEAD = 1e-3
"""A channel whose deviation is a smaller part of the largest one does not respond."""


NO_BIAS = 1e5
"""A bias so many times smaller than the response is what an initialization or decay left: even inputs 255 times too
large have larger ones. No response at all tells nothing either."""


def response_to_bias(model: ir.Model, samples: Samples) -> float | None:
    """Deviation of the first layer's output over ``samples``, in units of its bias; None where it has hardly one.

    Both are root mean squares over the channels that respond at all. A bias, above all one that a BatchNormalization
    was folded into, is made for inputs of one scale: an input that is 255 times too large drowns it, one that is 100
    times too small leaves nothing but the bias.

    Raises:
        SamplesError: ONNX Runtime cannot run the model on the samples.
    """
    layer = next((entry for node in weighted_nodes(model) if (entry := _with_bias(node)) is not None), None)
    if layer is None:
        return None
    name, channel_axis, bias = layer
    parts = [tensors[name] for tensors in activations(model, [name], SampleBatches(model, samples))]
    values = np.concatenate(parts)
    if channel_axis != 1:
        values = np.moveaxis(values, channel_axis, -1).reshape(1, -1, len(bias)).swapaxes(1, 2)
    variance = np.square(moments(values)[1])
    alive = variance >= np.square(DEAD) * variance.max()
    response, size = (float(np.sqrt(squares[alive].mean())) for squares in (variance, np.square(bias)))
    return response / size if 0 < response < NO_BIAS * size else None


def moments(values: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean and deviation of each channel of (N, C, ...), float64 (C,)."""
    rows = values.reshape(*values.shape[:2], -1)
    count = rows.shape[0] * rows.shape[2]
    means = rows.sum(axis=2).sum(axis=0, dtype=np.float64) / count
    squares = np.vecdot(rows, rows).sum(axis=0, dtype=np.float64) / count
    return means, np.sqrt(np.maximum(squares - means**2, 0))


def bias_of(node: ir.Node) -> Floats | None:
    """The bias of a layer (C,), its own or added behind it; None where it has no bias, or one of zeros."""
    found = _with_bias(node)
    return None if found is None else found[2]


def _with_bias(node: ir.Node) -> tuple[str, int, Floats] | None:
    """Name, channel axis and bias (C,) of a layer's output; None where it has no bias, or one of zeros."""
    axis = 1 if node.op_type in ("Conv", "ConvTranspose") else -1
    constants = [node.inputs[2]] if len(node.inputs) > 2 else []
    for use in node.outputs[0].uses():
        constants += list(use.node.inputs) if use.node.op_type == "Add" else []
    for value in constants:
        tensor = constant_of(value)
        if tensor is None:
            continue
        bias = tensor.numpy().astype(np.float64).reshape(-1)
        shape = node.outputs[0].shape
        if shape is not None and shape[axis] == len(bias) and bias.any():
            return str(node.outputs[0].name), axis, bias
    return None


def information(model: ir.Model, samples: Samples, runner: Runner | None = None) -> float | None:
    """What one answer says about its sample, in nats; None without class scores.

    See :func:`dfq_deploy.evaluation.sample_quality.information_of`.

    Args:
        runner: as :func:`informations` takes it.

    Raises:
        DfqError: ONNX Runtime cannot run the model on the samples.
    """
    found = informations(model, [samples], runner)
    return None if found is None else found[0]


def informations(model: ir.Model, sets: Sequence[Samples], runner: Runner | None = None) -> list[float] | None:
    """:func:`information` of each set, from one session; None without class scores.

    Args:
        runner: as :func:`class_probabilities` takes it.

    Raises:
        DfqError: ONNX Runtime cannot run the model on the samples.
    """
    answers = class_probabilities(model, sets, runner)
    return None if answers is None else [information_of(entry) for entry in answers]


def class_probabilities(model: ir.Model, sets: Sequence[Samples], runner: Runner | None = None) -> list[Floats] | None:
    """Probabilities (N, K) of the classes for each set, from one session; None without class scores.

    Args:
        runner: what runs ``model``, if that is at hand: it serves where the logits are an output of the model.

    Raises:
        DfqError: ONNX Runtime cannot run the model on the samples.
    """
    logits = score_logits(model)
    if logits is None:
        return None
    extra = {name: np.concatenate([entry.extra[name] for entry in sets]) for name in sets[0].extra}
    whole = Samples(np.concatenate([entry.images for entry in sets]), method=sets[0].method, extra=extra)
    answers = probabilities(_logits(model, str(logits.value.name), whole, runner).reshape(len(whole), -1))
    return np.split(answers, np.cumsum([len(entry) for entry in sets])[:-1])


def label_hits(model: ir.Model, samples: Samples, runner: Runner | None = None) -> float | None:
    """Share of the labels that the network answers; None without labels or class scores, or of one answer to all.

    Raises:
        DfqError: ONNX Runtime cannot run the model on the samples.
    """
    logits = None if samples.labels is None else score_logits(model)
    if samples.labels is None or logits is None:
        return None
    answers = _logits(model, str(logits.value.name), samples, runner).reshape(len(samples), -1).argmax(axis=1)
    return float((answers == samples.labels).mean()) if len(np.unique(answers)) > 1 else None


def _logits(model: ir.Model, name: str, samples: Samples, runner: Runner | None) -> Floats:
    if runner is None or name not in runner.output_names:
        parts = [tensors[name] for tensors in activations(model, [name], SampleBatches(model, samples))]
    else:
        place = runner.output_names.index(name)
        outputs = [runner.run(samples.part(part))[place] for part in slices(samples.images)]
        # Scores without a batch axis come as a tuple, one for each sample.
        parts = [array for output in outputs for array in (output if isinstance(output, tuple) else (output,))]
    return np.concatenate(parts)
