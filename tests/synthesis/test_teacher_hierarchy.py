"""The hierarchy of courses, worked out by hand, and on the zoo's networks."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.teacher_hierarchy import Profile, distance, draw_teachers, hierarchy, profile
from dfq_deploy.twin import Twin


def of(depth: int, operators: dict[str, float] | None = None, widths: dict[str, float] | None = None) -> Profile:
    return Profile(operators or {"Conv": 1.0}, depth, widths or {"4": 1.0})


def test_the_distance_by_hand() -> None:
    one = of(8, {"Conv": 0.5, "Relu": 0.5}, {"4": 0.5, "5": 0.5})
    other = of(16, {"Conv": 0.5, "Clip": 0.25, "Relu": 0.25}, {"5": 1.0})
    # Operators: (0 + 0.25 + 0.25) / 2; twice as deep: 1 / (1 + 1); widths: (0.5 + 0.5) / 2.
    assert distance(one, other) == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert distance(other, one) == pytest.approx(distance(one, other))
    assert distance(one, one) == 0


def test_the_nearest_are_joined_first() -> None:
    # Depths 1, 2, 16, 24: log2 ratios 1 and 0.58 within the pairs.
    levels = hierarchy([of(1), of(16), of(2), of(24)])
    assert levels == [((0,), (1, 3), (2,)), ((0, 2), (1, 3)), ((0, 1, 2, 3),)]
    assert hierarchy([of(3)]) == [((0,),)]


def test_a_profile_counts_operators_depth_and_widths(digits_bn: Path) -> None:
    twin = Twin.from_model(load(digits_bn))
    found = profile(twin)
    kinds = Counter(step.op_type for step in twin.steps)
    assert found.depth == kinds["Conv"] + kinds["Gemm"]
    assert found.operators["Relu"] == pytest.approx(kinds["Relu"] / len(twin.steps))
    assert sum(found.operators.values()) == pytest.approx(1)
    assert sum(found.widths.values()) == pytest.approx(1)


def test_resnets_of_two_depths_are_nearer_than_another_family(zoo: Path) -> None:
    names = ("akamaster_resnet20", "mobilenet_v1_075_224", "akamaster_resnet56")
    files = [next((zoo / "models").glob(f"{name}*_bn.onnx")) for name in names]
    profiles = [profile(Twin.from_model(load(file))) for file in files]
    assert profiles[1].operators["DepthwiseConv"] > 0.1
    assert hierarchy(profiles)[0] == ((0, 2), (1,))


def test_batches_go_from_similar_to_diverse() -> None:
    levels = hierarchy([of(16), of(24), of(1)])
    assert levels[0] == ((0, 1), (2,))
    generator = torch.Generator().manual_seed(0)
    early = {draw_teachers(levels, 0, 4, 2, generator) for _ in range(60)}
    assert early == {(0, 1), (2,)}
    late = {draw_teachers(levels, 3, 4, 2, generator) for _ in range(60)}
    assert late == {(0, 1), (0, 2), (1, 2)}
    assert {len(draw_teachers(levels, 0, 1, 5, generator)) for _ in range(5)} == {3}
    assert [draw_teachers(levels, index, 4, 1, torch.Generator().manual_seed(1)) for index in range(4)] == [
        draw_teachers(levels, index, 4, 1, torch.Generator().manual_seed(1)) for index in range(4)
    ]
