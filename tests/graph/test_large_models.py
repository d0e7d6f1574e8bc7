"""Structure and weights apart, with the limit of a message lowered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy.errors import ModelError
from dfq_deploy.graph import large_models
from dfq_deploy.graph.large_models import (
    contiguous,
    fingerprint,
    in_memory,
    message_bytes,
    skeleton,
    through_message,
    weight_bytes,
)
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes

ModelOf = Callable[..., onnx.ModelProto]

WEIGHTS = {
    "w": np.random.default_rng(0).normal(0, 0.5, (16, 3, 3, 3)).astype(np.float32),
    "g": np.random.default_rng(1).normal(0, 0.5, (16, 100)).astype(np.float32),
}
NODES = "c = Conv (x, w) r = Relu(c) q = ReduceMean <axes = [2, 3], keepdims = 0> (r) y = MatMul(q, g)"


@pytest.fixture
def proto(model_of: ModelOf) -> onnx.ModelProto:
    built = model_of("float[n,3,8,8] x", "float[n,100] y", NODES, {name: WEIGHTS[name] for name in "wg"})
    return ir.to_proto(ir.from_proto(built))


def test_a_skeleton_holds_everything_but_large_weights(proto: onnx.ModelProto) -> None:
    model = ir.from_proto(proto)
    bones, beside = skeleton(model)
    assert list(beside) == ["w", "g"]
    assert len(bones.SerializeToString()) < 700
    for tensor in bones.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        tensor.CopyFrom(numpy_helper.from_array(beside[tensor.name].numpy(), tensor.name))
    assert bones == proto
    assert ir.to_proto(model) == proto


def test_small_constants_stay_in_the_structure(model_of: ModelOf) -> None:
    """ONNX Runtime looks at shapes and axes before it is handed anything."""
    nodes = "f = Reshape(x, to) y = MatMul(f, g)"
    weights = {"to": np.array([-1, 16]), "g": WEIGHTS["g"]}
    bones, beside = skeleton(ir.from_proto(model_of("float[n,4,4] x", "float[m,100] y", nodes, weights)))
    assert list(beside) == ["g"]
    assert numpy_helper.to_array(bones.graph.initializer[0]).tolist() == [-1, 16]


def test_sizes(proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ir.from_proto(proto)
    assert weight_bytes(model) == 4 * (16 * 27 + 1600)
    assert message_bytes(model) == len(proto.SerializeToString())
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", 4000)
    assert message_bytes(model) == pytest.approx(len(proto.SerializeToString()), abs=100)


def test_the_fingerprint_is_of_structure_and_of_every_weight(
    proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ir.from_proto(proto)
    digest = fingerprint([model])
    assert len(digest) == 16
    int(digest, 16)
    assert fingerprint([model, model]) != digest
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", 4000)
    assert fingerprint([ir.from_proto(proto)]) == digest
    array = WEIGHTS["g"].copy()
    array[-1, -1] = np.nextafter(array[-1, -1], 1)
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "g"))
    changed = fingerprint([ir.from_proto(proto)])
    assert changed != digest
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [1, 1, 1, 1]))
    assert fingerprint([ir.from_proto(proto)]) not in (digest, changed)


def test_weights_go_around_what_takes_messages(proto: onnx.ModelProto) -> None:
    """ReduceMean has its axes in an attribute in opset 17 and in an input from 18 on."""
    seen: list[int] = []

    def converted(parted: onnx.ModelProto) -> onnx.ModelProto:
        seen.append(parted.ByteSize())
        return onnx.version_converter.convert_version(parted, 18)

    made = through_message(ir.from_proto(proto), converted)
    assert seen[0] < 700
    expected = onnx.version_converter.convert_version(proto, 18)
    found = ir.to_proto(made)
    arrays = [{t.name: numpy_helper.to_array(t) for t in model.graph.initializer} for model in (expected, found)]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][name], array)
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in expected.graph.node]
    assert [value.name for value in found.graph.input] == ["x"]


def test_weights_that_are_listed_as_inputs_stay_listed(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, [16, 100]))
    made = ir.to_proto(through_message(ir.from_proto(proto), lambda parted: parted))
    assert [value.name for value in made.graph.input] == ["x", "g"]
    assert {tensor.name for tensor in made.graph.initializer} == {"w", "g"}


def test_tensors_in_files_become_arrays(proto: onnx.ModelProto, tmp_path: Path) -> None:
    """Those of a Constant node too."""
    held = onnx.helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(WEIGHTS["g"][:1], "value"))
    proto.graph.node.insert(0, held)
    proto.graph.node[-1].output[0] = "z"
    proto.graph.node.append(onnx.helper.make_node("Add", ["z", "k"], ["y"]))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="data", size_threshold=0, convert_attribute=True)
    model = in_memory(ir.load(path))
    (tmp_path / "data").rename(tmp_path / "gone")
    for name, value in model.graph.initializers.items():
        assert isinstance(value.const_value, ir.Tensor)
        np.testing.assert_array_equal(value.const_value.numpy(), WEIGHTS[name])
    np.testing.assert_array_equal(model.graph[0].attributes["value"].as_tensor().numpy(), WEIGHTS["g"][:1])


@pytest.mark.parametrize("turned", [False, True])
def test_arrays_are_copied_only_where_they_must(turned: bool) -> None:
    array: NDArray[np.float32] = WEIGHTS["g"].T if turned else WEIGHTS["g"]
    found = contiguous(ir.Tensor(array))
    np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
    assert np.shares_memory(found, array) is not turned


def test_what_takes_one_message_says_so(proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", 4000)
    words = r"^the model 'graph' has 0\.0 GB of weights, and this step takes it in one message of at most 2 GB; calib"
    with pytest.raises(ModelError, match=words):
        to_bytes(load(proto))
