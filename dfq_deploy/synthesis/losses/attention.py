"""Attention outputs of a twin, found by structure."""

import torch
from torch import Tensor

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.traversal import walk
from dfq_deploy.twin import Step, Twin

__all__ = ["attention_outputs", "tokens_of"]

BETWEEN = frozenset({"Dropout", "Identity", "Cast", "Mul", "Div", "Add", "Where", "Transpose", "Reshape"})
"""What may stand between the scores and the Softmax, or between the weights and what they mix."""

FUSED = frozenset({"Attention", "com.microsoft::Attention", "com.microsoft::MultiHeadAttention"})


def attention_outputs(twin: Twin) -> tuple[str, ...]:
    """Names of the tensors that attention writes, in order.

    Rules: (1) the first output of an Attention operator; (2) the output of a MatMul whose first input comes from a
    Softmax that comes from a MatMul, with nothing but scaling, masking and moving between them.
    """
    made = {name: step for step in twin.steps for name in step.outputs}
    found = []
    for step in twin.steps:
        if is_op(step, FUSED):
            found.append(step.outputs[0])
        elif is_op(step, "MatMul"):
            softmax = _behind(made.get(step.inputs[0]), "Softmax", made)
            scores = None if softmax is None else made.get(softmax.inputs[0])
            if softmax is not None and _behind(scores, "MatMul", made) is not None:
                found.append(step.outputs[0])
    return tuple(found)


def _behind(step: Step | None, wanted: str, made: dict[str, Step]) -> Step | None:
    """The step of a type that ``step`` is, or comes from."""

    def sources(name: str) -> list[str]:
        return [
            made[source].outputs[0] for source in made[name].inputs if source in made and is_op(made[name], BETWEEN)
        ]

    steps = (made[name] for name in walk([] if step is None else [step.outputs[0]], sources))
    return next((one for one in steps if is_op(one, wanted)), None)


def tokens_of(values: Tensor) -> Tensor:
    """(N, T, D) of what attention writes: (N, T, D) itself, or (N, heads, T, D / heads) with the heads joined."""
    return values if values.ndim < 4 else torch.cat(values.unbind(1), dim=-1)
