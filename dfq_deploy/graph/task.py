"""Say what a model computes: class scores, and which of its outputs they are, or something else."""

import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import ModelError, OptionError, did_you_mean
from dfq_deploy.graph.file_shapes import file_shape, size_name
from dfq_deploy.graph.logits import MOVING_OPS, logits_of
from dfq_deploy.graph.main_input import words_of
from dfq_deploy.graph.operators import FLOATS, is_op

__all__ = ["TASK", "TASKS", "score_output", "score_width", "state_task", "task_hint"]

TASKS = ("classify", "detect", "segment", "regress", "embed")
"""What ``--task`` may say."""

TASK = "dfq_deploy.task"
"""The metadata entry that holds what the caller says."""

SCORES = re.compile(r"logit|prob|score|class|softmax|label|cls")
"""What the names of class scores hold."""

OTHERS = re.compile(
    r"landmark|box|coord|embed|featur|keypoint|kpt|kps|pose|regress|offset|vector|mask|depth|hidden|pooler|angle|flow"
)
"""What the names of rows hold that are no class scores."""

OTHER_WORDS = frozenset(
    {"det", "dets", "feat", "feats", "ldm", "loc", "locs", "reg", "rot", "pts", "joints", "xywh", "xyxy", "xyz"}
    | {"arousal", "distance", "gaze", "height", "pitch", "price", "roll", "speed", "steering", "temperature"}
    | {"valence", "velocity", "width", "yaw"}
)
"""Whole words in those names."""

PRODUCTS = ("Conv", "Gemm", "MatMul", "Sigmoid")
"""What class scores come from, where no Softmax is left; a Sigmoid gives a probability for each class."""

FEWEST_BIASES = 8
"""Fewer of them may lie on one side of 0 by chance."""

POOLING_OPS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})

AFFINE_OPS = frozenset({"Add", "Div", "Mul", "Sub"})

IMAGENET = (1000, 1001)
"""Classes of ImageNet, without and with a background."""


def state_task(model: ir.Model, task: str | None) -> None:
    """Keep in the metadata of ``model`` what it computes; None leaves that to :func:`score_output`.

    Raises:
        ModelError: it is to be a classifier and has no row of scores.
        OptionError: there is no such task.
    """
    if task is None:
        return
    if task not in TASKS:
        raise OptionError(f"--task {task}: no such task{did_you_mean(str(task), TASKS, 'choose one of')}")
    model.metadata_props[TASK] = task
    if task == "classify" and score_output(model) is None:
        shapes = ", ".join(f"'{value.name}' {value.shape}" for value in model.graph.outputs)
        raise ModelError(f"--task classify: no output is a row of float scores for each sample (outputs: {shapes})")


def score_width(value: ir.Value) -> int | None:
    """Number of scores where an output is one row of floats for each sample, at least two, else None."""
    dims = _row(value)
    if dims is None or not isinstance(dims[0], int) or _is_length(value):
        return None
    return dims[0] if dims[0] > 1 else None


def _is_length(value: ir.Value) -> bool:
    """True for a row that is as long as an input: a score for each token. What that is closed to is no matter."""
    lengths: set[str] = set()
    for given in () if value.graph is None else value.graph.inputs:
        names = [size_name(dim) for dim in file_shape(given) or ()]
        lengths.update(name for name in names[1:] if name and names.count(name) == 1)  # else a name of any open size
    return not lengths.isdisjoint(size_name(dim) for dim in list(file_shape(value) or ())[1:])


def _row(value: ir.Value) -> list[int | ir.SymbolicDim] | None:
    """The one dimension, perhaps open, of an output of floats that has one row for each sample."""
    if value.shape is None or value.dtype not in FLOATS | {None}:
        return None
    dims = [dim for dim in list(value.shape)[1:] if dim != 1]
    return dims if len(dims) == 1 else None


def score_output(model: ir.Model, *, labelled: bool = False) -> ir.Value | None:
    """The output that holds class scores, one row of floats for each sample; None where there is no reason to think so.

    Rules, the first that applies: (1) the task that is stated; (2) a row that a Softmax ends (of those that share
    their logits only one), or that is named after scores, or that comes from a dense layer or a convolution, perhaps
    pooled, and neither is named after coordinates, features or the like nor adds biases that are all above 0, is a
    candidate; (3) of several candidates the one that is named after scores, else none.

    Args:
        labelled: the samples have labels, which is a reason too: the first candidate, else the first row (or what may
            be one, where its size is not known) that is not named after something else.
    """
    outputs = model.graph.outputs
    rows = [value for value in outputs if score_width(value) is not None]
    task = model.metadata_props.get(TASK)
    if task not in (None, "classify"):
        return None
    candidates = [value for value in rows if _is_candidate(value, outputs)]
    candidates = _without_copies(candidates)
    named = [value for value in candidates if _says_scores(value)]
    if task == "classify":
        return next(iter((*named, *candidates, *rows)), None)
    if len(candidates) > 1 and not labelled:
        return named[0] if len(named) == 1 else None
    possible = [value for value in outputs if value.shape is None or _row(value) is not None] if labelled else []
    possible = [value for value in possible if not _says_other(value) and not _is_list(value, outputs)]
    return next(iter((*named, *candidates, *possible)), None)


def task_hint(model: ir.Model) -> str:
    """Why labels are of no use to a model without class scores, for errors and notes."""
    names = ", ".join(f"'{value.name}'" for value in model.graph.outputs)
    task = model.metadata_props.get(TASK)
    why = f"--task is {task}" if task else f"none of its outputs ({names}) is known to be a row of class scores"
    return f"the model is no classifier: {why}; say --task classify if it is one, or leave the labels out"


def _without_copies(candidates: Sequence[ir.Value]) -> list[ir.Value]:
    """The candidates without those that are computed from the same logits as another: the logits stay, if any."""
    sources: dict[ir.Value, ir.Value] = {}
    for value in candidates:
        logits = logits_of(value).value
        if logits not in sources or logits is value:
            sources[logits] = value
    return list(sources.values())


def _says_scores(value: ir.Value) -> bool:
    return SCORES.search(str(value.name).lower()) is not None


def _says_other(value: ir.Value) -> bool:
    name = str(value.name)
    return OTHERS.search(name.lower()) is not None or not OTHER_WORDS.isdisjoint(words_of(name))


def _is_candidate(value: ir.Value, outputs: Sequence[ir.Value]) -> bool:
    if logits_of(value).activation in ("LogSoftmax", "Softmax"):
        return True
    end, pooled = _end(value)
    if _says_other(value) or _is_list(value, outputs):
        return False
    if _says_scores(value):
        return True
    if end is not None and is_op(end, "Relu"):  # the features before a classifier look the same
        return pooled and score_width(value) in IMAGENET
    return len(outputs) == 1 if end is None else is_op(end, PRODUCTS) and not _starts_from_values(value)


def _starts_from_values(value: ir.Value) -> bool:
    """True where the biases behind an output are a mean of what is measured, as of coordinates: all above 0.

    Cross-entropy moves the biases of all classes by 0 in sum, so those of class scores lie on both sides of 0.
    """
    bias = _bias(value)
    if bias is None or bias.size < FEWEST_BIASES:
        return False
    given = bias.numpy().astype(np.float64)
    return bool(given.min() > 0 and given.mean() > given.std() > 0)


def _bias(value: ir.Value) -> ir.TensorProtocol | None:
    """The constant that is added last, behind what only moves or pools; None where there is none."""
    node = value.producer()
    while node is not None and is_op(node, MOVING_OPS | POOLING_OPS) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or not is_op(node, ("Add", "Conv", "Gemm")):
        return None
    added = node.inputs if is_op(node, "Add") else node.inputs[2:]
    return next((one.const_value for one in added if one is not None and one.is_initializer()), None)


def _is_list(value: ir.Value, outputs: Sequence[ir.Value]) -> bool:
    """True where a row goes through things that another output describes, as the scores beside a detector's boxes."""
    return any(
        other is not value
        and other.shape is not None
        and len(other.shape) > 2
        and score_width(value) in other.shape[1:]
        for other in outputs
    )


def _end(value: ir.Value) -> tuple[ir.Node | None, bool]:
    """The node that computes ``value``, behind what only moves, scales or pools it; whether it is pooled."""
    pooled = False
    while (node := value.producer()) is not None:
        sources = [one for one in node.inputs if one is not None and not one.is_initializer()]
        moves = is_op(node, MOVING_OPS | POOLING_OPS) or (is_op(node, AFFINE_OPS) and len(sources) == 1)
        if is_op(node, "Add") and len(sources) == 2:  # the scores of two heads
            ends = [_end(source)[0] for source in sources]
            return (ends[0] if all(end is not None and is_op(end, PRODUCTS) for end in ends) else node), pooled
        if not moves:
            return node, pooled
        pooled = pooled or is_op(node, POOLING_OPS)
        value = sources[0]
    return None, pooled
