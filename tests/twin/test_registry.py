"""Which implementation answers for an opset."""

import pytest
import torch

from dfq_deploy.twin import REGISTRY, Entry, Node, Operator, Registry


def _builder(node: Node) -> Operator:
    return torch.relu


@pytest.mark.parametrize(("version", "since"), [(1, 1), (12, 1), (13, 13), (17, 13), (18, 18), (99, 18)])
def test_the_highest_since_version_not_above_the_opset_answers(version: int, since: int) -> None:
    registry = Registry()
    entries = {number: Entry(_builder, arguments=(number,)) for number in (13, 1, 18)}
    for number, entry in entries.items():
        registry.add("", "Softmax", number, entry)
    assert registry.find("", "Softmax", version) is entries[since]


def test_an_operator_is_unknown_before_its_first_version_and_in_other_domains() -> None:
    registry = Registry()
    registry.add("", "Gelu", 20, Entry(_builder))
    assert registry.find("", "Gelu", 19) is None
    assert registry.find("ai.example", "Gelu", 20) is None


def test_a_duplicate_is_refused() -> None:
    registry = Registry()
    registry.add("", "Relu", 6, Entry(_builder))
    with pytest.raises(ValueError, match=r"^operator ai\.onnx::Relu-6 is registered twice$"):
        registry.add("", "Relu", 6, Entry(_builder))


def test_the_softmax_of_opset_12_is_another_one_than_that_of_13() -> None:
    assert REGISTRY.find("", "Softmax", 12) is not REGISTRY.find("", "Softmax", 13)
