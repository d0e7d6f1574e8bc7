"""Order several teachers from similar to diverse (LIS).

Learning in School (Li et al., arXiv 2011.09899) draws the teachers of each batch from such a hierarchy and does not
say how it is made. Here it comes from the graphs themselves. Two teachers are as far apart as the mean of three parts,
each from 0 to 1:

1. operators: half the sum of the differences between the shares that each operator has of all nodes, where a Conv
   with one input channel for each filter counts as an operator of its own (depthwise);
2. depth: r / (1 + r), r the absolute log2 ratio of the numbers of weighted nodes (Conv, Gemm, MatMul with weights);
3. widths: as 1, with the shares of weighted nodes whose weights are 2^i long in the first axis, i rounded (the output
   channels of a Conv).

The two nearest families are then joined again and again (mean distance between their members): each join is a level
of the hierarchy, and the families at a level are its courses.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.operators import is_op, operator_of
from dfq_deploy.twin import Step, Twin

__all__ = ["Profile", "difference", "draw", "hierarchy", "profile"]

WEIGHTED = ("Conv", "Gemm", "MatMul")

Course = tuple[int, ...]
"""The teachers of a family, by their number."""


@dataclass(frozen=True)
class Profile:
    """What an architecture looks like.

    Args:
        operators: share of the nodes by operator.
        depth: number of weighted nodes, at least 1.
        widths: share of the weighted nodes by rounded log2 of the first axis of their weights.
    """

    operators: Mapping[str, float]
    depth: int
    widths: Mapping[str, float]


def profile(twin: Twin) -> Profile:
    """The profile of a teacher."""
    weights = {step.name: shape for step in twin.steps if (shape := _weight_shape(twin, step))}
    operators = Counter(
        "DepthwiseConv" if is_op(step, "Conv") and weights.get(step.name, (0, 0))[1] == 1 else operator_of(step)
        for step in twin.steps
    )
    widths = Counter(str(round(math.log2(shape[0]))) for shape in weights.values())
    return Profile(_shares(operators), max(len(weights), 1), _shares(widths))


def _weight_shape(twin: Twin, step: Step) -> tuple[int, ...] | None:
    """The shape of a node's weights, None where it has none."""
    if not is_op(step, WEIGHTED):
        return None
    try:
        return tuple(twin.initializer(step.inputs[1]).shape)
    except ModelError:  # two tensors that are both computed
        return None


def _shares(counts: Counter[str]) -> dict[str, float]:
    return {key: count / counts.total() for key, count in counts.items()}


def difference(one: Profile, other: Profile) -> float:
    """How far two teachers are apart, 0 to 1."""
    ratio = abs(math.log2(one.depth / other.depth))
    parts = (_apart(one.operators, other.operators), ratio / (1 + ratio), _apart(one.widths, other.widths))
    return sum(parts) / len(parts)


def _apart(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in {*one, *other}) / 2


def hierarchy(profiles: Sequence[Profile]) -> list[tuple[Course, ...]]:
    """The courses of each level, from the first join of two families to all teachers together; one teacher: itself."""
    families: list[Course] = [(index,) for index in range(len(profiles))]
    levels = [] if len(families) > 1 else [tuple(families)]
    while len(families) > 1:
        near, far = min(combinations(families, 2), key=lambda pair: _between(profiles, *pair))
        families = [family for family in families if family not in (near, far)] + [tuple(sorted(near + far))]
        levels.append(tuple(sorted(families)))
    return levels


def _between(profiles: Sequence[Profile], one: Course, other: Course) -> float:
    return sum(difference(profiles[i], profiles[j]) for i in one for j in other) / (len(one) * len(other))


def draw(
    levels: Sequence[tuple[Course, ...]], batch: int, batches: int, together: int, generator: torch.Generator
) -> Course:
    """The teachers of one batch.

    The batches go through the levels evenly, from similar to diverse; the last is of the last level. Of a level's
    courses one is drawn, each as likely as it has teachers, and of that at most ``together`` teachers.
    """
    level = levels[len(levels) - 1 - (batches - 1 - batch) * len(levels) // batches]
    sizes = torch.tensor([len(course) for course in level], dtype=torch.float32)
    course = level[int(torch.multinomial(sizes, 1, generator=generator))]
    order = torch.randperm(len(course), generator=generator)[:together].tolist()
    return tuple(sorted(course[index] for index in order))
