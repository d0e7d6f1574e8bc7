"""Order several teachers from similar to diverse (LIS).

Learning in School (Li et al., arXiv 2011.09899) draws the teachers of each batch from such a hierarchy and does not
specify how it is built. Here it is computed from the graphs. The distance between two teachers is the mean of three
terms, each from 0 to 1:

1. operators: half the sum of the absolute differences of the operator frequencies (the share of each operator among
   all nodes); a Conv with one input channel per filter counts as an operator of its own (depthwise);
2. depth: r / (1 + r), r the absolute log2 ratio of the numbers of weighted nodes (Conv, Gemm, MatMul with weights);
3. widths: as 1, with the frequencies of the rounded log2 of the first weight axis (the output channels of a Conv).

The groups are then merged by agglomerative clustering with average linkage, starting with one teacher each. Each merge
is a level of the hierarchy.
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

__all__ = ["Profile", "distance", "draw_teachers", "hierarchy", "profile"]

WEIGHTED = ("Conv", "Gemm", "MatMul")

Group = tuple[int, ...]
"""Indices of the teachers of a group."""


@dataclass(frozen=True)
class Profile:
    """Summary of an architecture.

    Args:
        operators: share of the nodes, by operator.
        depth: number of weighted nodes, at least 1.
        widths: share of the weighted nodes, by rounded log2 of the first axis of their weights.
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
    """Shape of the weight of a node, None if it has none."""
    if not is_op(step, WEIGHTED):
        return None
    try:
        return tuple(twin.initializer(step.inputs[1]).shape)
    except ModelError:  # a MatMul of two activations
        return None


def _shares(counts: Counter[str]) -> dict[str, float]:
    return {key: count / counts.total() for key, count in counts.items()}


def distance(one: Profile, other: Profile) -> float:
    """Distance between two architectures, 0 to 1."""
    ratio = abs(math.log2(one.depth / other.depth))
    terms = (
        _share_distance(one.operators, other.operators),
        ratio / (1 + ratio),
        _share_distance(one.widths, other.widths),
    )
    return sum(terms) / len(terms)


def _share_distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in {*one, *other}) / 2


def hierarchy(profiles: Sequence[Profile]) -> list[tuple[Group, ...]]:
    """The groups at each level, from the first merge to all teachers in one group; a single teacher is one level."""
    groups: list[Group] = [(index,) for index in range(len(profiles))]
    levels = [] if len(groups) > 1 else [tuple(groups)]
    while len(groups) > 1:
        first, second = min(combinations(groups, 2), key=lambda pair: _mean_distance(profiles, *pair))
        groups = [group for group in groups if group not in (first, second)] + [tuple(sorted(first + second))]
        levels.append(tuple(sorted(groups)))
    return levels


def _mean_distance(profiles: Sequence[Profile], one: Group, other: Group) -> float:
    return sum(distance(profiles[i], profiles[j]) for i in one for j in other) / (len(one) * len(other))


def draw_teachers(
    levels: Sequence[tuple[Group, ...]], batch: int, batches: int, maximum: int, generator: torch.Generator
) -> Group:
    """Draw the teachers of one batch.

    The batches are distributed evenly over the levels, from similar to diverse; the last batch uses the last level. A
    group of the level is drawn with a probability proportional to its size, and from it at most ``maximum`` teachers.
    """
    level = levels[len(levels) - 1 - (batches - 1 - batch) * len(levels) // batches]
    sizes = torch.tensor([len(group) for group in level], dtype=torch.float32)
    group = level[int(torch.multinomial(sizes, 1, generator=generator))]
    order = torch.randperm(len(group), generator=generator)[:maximum].tolist()
    return tuple(sorted(group[index] for index in order))
