"""Find the attention outputs of a twin."""

import torch
from torch import Tensor

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.traversal import walk
from dfq_deploy.twin import Step, Twin

__all__ = ["as_tokens", "attention_outputs"]

BETWEEN = frozenset({"Dropout", "Identity", "Cast", "Mul", "Div", "Add", "Where", "Transpose", "Reshape"})
"""Operators that are allowed between the scores and the Softmax, or between the Softmax and the second MatMul."""

FUSED = frozenset({"Attention", "com.microsoft::Attention", "com.microsoft::MultiHeadAttention"})


def attention_outputs(twin: Twin) -> tuple[str, ...]:
    """Names of the output tensors of attention layers, in the order of the graph.

    Rules: (1) the first output of an Attention operator; (2) the output of a MatMul whose first input comes from a
    Softmax that comes from a MatMul, with only scaling, masking and layout operators between them.
    """
    producers = {name: step for step in twin.steps for name in step.outputs}
    names = []
    for step in twin.steps:
        if is_op(step, FUSED):
            names.append(step.outputs[0])
        elif is_op(step, "MatMul"):
            softmax = _upstream(producers.get(step.inputs[0]), "Softmax", producers)
            scores = None if softmax is None else producers.get(softmax.inputs[0])
            if softmax is not None and _upstream(scores, "MatMul", producers) is not None:
                names.append(step.outputs[0])
    return tuple(names)


def _upstream(step: Step | None, op_type: str, producers: dict[str, Step]) -> Step | None:
    """The first step of type ``op_type`` among ``step`` and what it is computed from."""

    def sources(name: str) -> list[str]:
        step = producers[name]
        return [producers[source].outputs[0] for source in step.inputs if source in producers and is_op(step, BETWEEN)]

    steps = (producers[name] for name in walk([] if step is None else [step.outputs[0]], sources))
    return next((candidate for candidate in steps if is_op(candidate, op_type)), None)


def as_tokens(values: Tensor) -> Tensor:
    """Reshape an attention output to (N, T, D): from (N, heads, T, D / heads), or (N, T, D) unchanged."""
    return values if values.ndim < 4 else torch.cat(values.unbind(1), dim=-1)
