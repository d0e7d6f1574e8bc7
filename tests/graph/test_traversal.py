"""Ways through a graph, against a graph whose ways are written down."""

from collections.abc import Callable, Iterable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dfq_deploy.graph.traversal import after, before, walk, weighted_after

ModelOf = Callable[..., onnx.ModelProto]

NODES = """
a = Relu(x)
b = Relu(a)
c = Neg(a)
d = Add(b, c)
e = MatMul(d, w)
y = Add(e, c)
"""
"""a splits into b and c; d joins them; c is read again by y."""


@pytest.fixture
def nodes(model_of: ModelOf) -> dict[str, ir.Node]:
    model = ir.from_proto(model_of("float[2,2] x", "float[2,2] y", NODES, {"w": np.ones((2, 2), np.float32)}))
    return {str(node.outputs[0].name): node for node in model.graph}


def written(found: Iterable[ir.Node]) -> list[str]:
    return [str(node.outputs[0].name) for node in found]


def test_each_once_and_the_nearest_first(nodes: dict[str, ir.Node]) -> None:
    assert written(after(nodes["a"])) == ["b", "c", "d", "y", "e"]
    assert written(before(nodes["y"])) == ["e", "c", "d", "a", "b"]
    assert written(after(nodes["y"])) == []
    assert written(before(nodes["a"])) == []


def test_the_walk_ends_where_it_may_not_go_through(nodes: dict[str, ir.Node]) -> None:
    assert written(after(nodes["a"], lambda node: node is not nodes["d"])) == ["b", "c", "d", "y"]
    # d and y are reached all the same: another way leads there
    assert written(after(nodes["a"], lambda node: node is not nodes["b"])) == ["b", "c", "d", "y", "e"]
    assert written(before(nodes["y"], lambda node: node is nodes["e"])) == ["e", "c", "d"]


def test_what_is_weighted_behind_a_node(nodes: dict[str, ir.Node]) -> None:
    assert [name for name, node in nodes.items() if weighted_after(node)] == ["a", "b", "c", "d"]


def test_circles_end_and_nothing_is_looked_at_before_it_is_asked_for() -> None:
    looked: list[int] = []

    def near(number: int) -> list[int]:
        looked.append(number)
        return [(number + 1) % 5, (number + 2) % 5]

    steps = walk([3, 3], near)
    assert next(steps) == 3
    assert looked == []
    assert list(steps) == [4, 0, 1, 2]
