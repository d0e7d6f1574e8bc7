"""The twin as a module: names, hooks, kept tensors, replaced nodes, memory, devices, refusals."""

import copy
import weakref
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from dfq_deploy.errors import ModelError, UnsupportedOperators
from dfq_deploy.twin import Twin

Maker = Callable[..., onnx.ModelProto]
FLOAT = TensorProto.FLOAT


@pytest.fixture
def twin(make_model: Maker) -> Twin:
    """y = relu(2 x - 1) + 10, with awkward names."""
    model = make_model(
        [
            helper.make_node("Mul", ["x", "layer/0.weight"], ["product"], name="mul"),
            helper.make_node("Sub", ["product", "layer/0:weight"], ["difference"]),
            helper.make_node("Relu", ["difference"], ["positive"], name="relu"),
            helper.make_node("Add", ["positive", "ten"], ["y"], name="add"),
        ],
        {"x": (FLOAT, ("n", 3))},
        {
            "layer/0.weight": np.array([2, 2, 2], np.float32),
            "layer/0:weight": np.array([1, 1, 1], np.float32),
            "ten": np.array([10, 10, 10], np.float32),
        },
    )
    return Twin.from_model(ir.from_proto(model))


X = torch.tensor([[0.0, 1.0, 2.0]])


def test_names_are_those_of_the_graph(twin: Twin) -> None:
    assert twin.input_names == ("x",)
    assert twin.output_names == ("y",)
    assert [step.name for step in twin.steps] == ["mul", "Sub_1", "relu", "add"]
    assert [step.op_type for step in twin.steps] == ["Mul", "Sub", "Relu", "Add"]
    assert twin.steps[1].inputs == ("product", "layer/0:weight")
    assert (twin.steps[1].domain, twin.steps[1].version) == ("", 17)


def test_float_initializers_are_parameters_without_gradient(twin: Twin) -> None:
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert sorted(name for name, _ in twin.named_parameters()) == ["layer_0_weight", "layer_0_weight_1", "ten"]
    assert twin.initializer("layer/0.weight").tolist() == [2, 2, 2]
    assert twin.initializer("layer/0:weight").tolist() == [1, 1, 1]
    with pytest.raises(ModelError, match=r"^initializer 'nine' is not in the graph$"):
        twin.initializer("nine")


def test_a_changed_parameter_changes_the_result(twin: Twin) -> None:
    assert twin(X).tolist() == [[10, 11, 13]]
    with torch.no_grad():
        twin.initializer("ten").fill_(20)
    assert twin(X).tolist() == [[20, 21, 23]]


def test_gradients_reach_a_parameter_that_asks_for_them(twin: Twin) -> None:
    weight = twin.initializer("layer/0.weight").requires_grad_()
    result = twin(X)
    assert isinstance(result, Tensor)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 1, 2]  # relu is shut for the first


def test_kept_tensors_come_beside_the_outputs(twin: Twin) -> None:
    results = twin.run({"x": X}, keep=("difference", "x"))
    assert {name: tensor.tolist() for name, tensor in results.items()} == {
        "y": [[10, 11, 13]],
        "difference": [[-1, 1, 3]],
        "x": [[0, 1, 2]],
    }


def test_hooks_change_inputs_initializers_and_computed_tensors(twin: Twin) -> None:
    hooks = {"x": lambda x: x + 1, "ten": lambda t: t * 10, "difference": torch.neg, "y": lambda y: y / 100}
    # x + 1 = 1 2 3, 2 x - 1 = 1 3 5, negated, relu = 0, plus 100, over 100
    assert twin.run({"x": X}, hooks=hooks)["y"].tolist() == [[1, 1, 1]]
    assert twin.run({"x": X})["y"].tolist() == [[10, 11, 13]]


def test_a_replaced_node_and_its_copy(twin: Twin) -> None:
    other = copy.deepcopy(twin)
    twin.replace("relu", torch.square)
    assert twin.run({"x": X})["y"].tolist() == [[11, 11, 19]]
    assert other.run({"x": X})["y"].tolist() == [[10, 11, 13]]
    with pytest.raises(ModelError, match=r"^node 'gelu' is not in the graph$"):
        twin.replace("gelu", torch.square)


def test_a_module_that_replaces_a_node_becomes_a_part(twin: Twin) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    twin.replace("relu", Scale())
    copied = copy.deepcopy(twin).double()
    assert copied.run({"x": X.double()})["y"].tolist() == [[7, 13, 19]]
    assert copied.run({"x": X.double()})["y"].dtype is torch.float64


def test_tensors_are_freed_after_their_last_use(twin: Twin) -> None:
    seen: list[weakref.ref[Tensor]] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(weakref.ref(x))
        return x

    alive: list[bool] = []

    def look(x: Tensor) -> Tensor:
        alive.append(seen[0]() is not None)
        return x

    twin.run({"x": X}, hooks={"product": watch, "positive": look})
    twin.run({"x": X}, hooks={"positive": look}, keep=("product",))
    assert alive[0] is False
    seen.clear()
    kept = twin.run({"x": X}, hooks={"product": watch, "positive": look}, keep=("product",))
    assert alive[-1] is True
    assert kept["product"] is seen[0]()


def test_wrong_feeds_are_refused(twin: Twin) -> None:
    with pytest.raises(ModelError, match=r"^input 'x' is not fed; the model takes x$"):
        twin.run({})
    with pytest.raises(ModelError, match=r"^tensor 'z' is not in the graph; its inputs are x$"):
        twin.run({"x": X, "z": X})
    with pytest.raises(ModelError, match=r"^tensor 'z' is not in the graph"):
        twin.run({"x": X}, keep=("z",))
    with pytest.raises(ModelError, match=r"^2 inputs given; the model takes 1"):
        twin(X, X)


def test_every_unknown_node_is_named_at_once(make_model: Maker) -> None:
    branch = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["inner"], name="nested", domain="ai.example")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, None)],
    )
    model = make_model(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Riddle", ["a"], ["b"], name="first"),
            helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
            helper.make_node("Gelu", ["b"], ["z"], name="too new"),
        ],
        {"x": (FLOAT, (1,)), "c": (TensorProto.BOOL, ())},
    )
    with pytest.raises(UnsupportedOperators) as raised:
        Twin.from_model(ir.from_proto(model))
    assert str(raised.value) == (
        "the twin does not support 4 node(s) of this graph: ai.onnx::Riddle-17 (first), "
        "ai.example::Mystery-0 (nested), ai.example::Mystery-0 (nested), ai.onnx::Gelu-17 (too new); a method that "
        "needs no gradient (--synth procedural) or real images (--data) do without it"
    )


def test_several_outputs_come_in_order(make_model: Maker) -> None:
    model = make_model(
        [helper.make_node("Split", ["x"], ["a", "b"], axis=0), helper.make_node("Neg", ["a"], ["c"])],
        {"x": (FLOAT, (2,))},
        outputs=("b", "c", "fixed"),
        constants={"fixed": np.array([7], np.float32)},
    )
    results = Twin.from_model(ir.from_proto(model))(torch.tensor([1.0, 2.0]))
    assert [tensor.tolist() for tensor in results] == [[2], [-1], [7]]


def test_initializers_that_are_listed_as_inputs_are_not_fed(make_model: Maker) -> None:
    model = make_model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"w": (FLOAT, (1,)), "x": (FLOAT, (1,))},
        {"w": np.array([5], np.float32)},
    )
    twin = Twin.from_model(ir.from_proto(model))
    assert twin.input_names == ("x",)
    assert twin.run({"x": torch.tensor([1.0])})["y"].tolist() == [6]


def test_what_follows_from_integer_constants_is_computed_at_import(make_model: Maker) -> None:
    model = make_model(
        [
            helper.make_node("Concat", ["rest", "two"], ["dims"], axis=0),
            helper.make_node("SequenceConstruct", ["dims", "two"], ["unused"]),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["batch"]),
            helper.make_node("Reshape", ["x", "dims"], ["y"]),
        ],
        {"x": (FLOAT, ("n", 4))},
        {"rest": np.array([-1], np.int64), "two": np.array([2], np.int64), "zero": np.int64(0)},
        {"y": FLOAT, "batch": TensorProto.INT64, "dims": TensorProto.INT64},
    )
    twin = Twin.from_model(ir.from_proto(model))
    assert [step.op_type for step in twin.steps] == ["SequenceConstruct", "Shape", "Gather", "Reshape"]
    for count in (1, 3):  # what depends on the batch is not
        y, batch, dims = twin(torch.zeros(count, 4))
        assert (tuple(y.shape), batch.item(), dims.tolist()) == ((2 * count, 2), count, [-1, 2])


def test_functions_of_the_model_are_inlined(make_model: Maker) -> None:
    model = make_model([helper.make_node("Twice", ["x"], ["y"], domain="ai.example")], {"x": (FLOAT, (1,))})
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("ai.example", "Twice", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("ai.example", 1))
    assert Twin.from_model(ir.from_proto(model))(torch.tensor([4.0])).tolist() == [8]


def test_channels_last_and_bfloat16(make_model: Maker) -> None:
    rng = np.random.default_rng(0)
    model = make_model(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["a", "x"], ["b"]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "m"], ["y"]),
        ],
        {"x": (FLOAT, ("n", 4, 5, 5))},
        {"w": rng.standard_normal((4, 4, 3, 3), np.float32), "m": rng.standard_normal((100, 2), np.float32)},
    )
    twin, x = Twin.from_model(ir.from_proto(model)), torch.from_numpy(rng.standard_normal((2, 4, 5, 5), np.float32))
    expected = twin(x)
    assert isinstance(expected, Tensor)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = twin(x)
    assert isinstance(rounded, Tensor)
    assert rounded.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0.05, atol=1.0)
    last = copy.deepcopy(twin).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4)


def test_a_split_into_another_number_of_outputs_is_refused(make_model: Maker) -> None:
    model = make_model(
        [helper.make_node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2**62)],
        {"x": (FLOAT, ("n", 4))},
        outputs=("y", "z"),
        opset=18,
    )
    with pytest.raises(ModelError, match=rf"num_outputs is {2**62}, and it has 2 outputs; export the model again"):
        Twin.from_model(ir.from_proto(model))
