"""Loading and looking at models: every refusal by its words, and facts about real models."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import input_values, main_input_value, sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import batch_normalizations, parameter_count, score_count, weighted_nodes
from dfq_deploy.graph.reading import MINIMUM_OPSET
from dfq_deploy.graph.writing import to_bytes

TinyModel = Callable[..., onnx.ModelProto]


def one_node(
    operator: str, inputs: dict[str, int], weights: dict[str, np.ndarray] | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node with inputs of shape (1, 2, 4, 4) and the ONNX types given, and weights besides."""
    weights = weights or {}
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, [*inputs, *weights], ["y"], "the-node", **attributes)],
            "one-node",
            [helper.make_tensor_value_info(name, kind, [1, 2, 4, 4]) for name, kind in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


# What is refused


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file; give the path of an \.onnx file$"):
        load(tmp_path / "gone.onnx")


def test_folder_as_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an ONNX model but a folder; give the path of an"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"this is a text file\n" * 50, b"\x00" * 500, b"PK\x03\x04 a zip", b"{}"], ids=repr
)
def test_file_that_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(
        ModelError,
        match=r"model\.onnx: not an ONNX model.*; .*(export it again|download it again|an \.onnx file)$",
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_file_that_is_cut_short(tmp_path: Path, digits_bn: Path, kept: float) -> None:
    whole = digits_bn.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX model, or cut short .*; export it again$"):
        load(path)


def test_external_data_that_is_missing(tmp_path: Path, digits_bn: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(digits_bn), path, save_as_external_data=True, location="model.data", size_threshold=0)
    assert len(batch_normalizations(load(path))) == 9
    (tmp_path / "model.data").unlink()
    with pytest.raises(
        ModelError, match=r"model\.onnx: its external data cannot be read .*; keep the data file beside the model$"
    ):
        load(path)


def test_external_data_that_is_cut_short(tmp_path: Path, digits_bn: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(digits_bn), path, save_as_external_data=True, location="model.data", size_threshold=0)
    data = tmp_path / "model.data"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"model\.onnx: its external data cannot be read"):
        load(path)


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv"])
def test_model_that_is_quantized_already(operator: str) -> None:
    model = one_node(operator, {"x": TensorProto.FLOAT})
    with pytest.raises(
        ModelError, match=rf"already quantized \({operator} 'the-node'\); give the float model that it was made from$"
    ):
        load(model)


def test_model_without_input() -> None:
    model = one_node("Relu", {}, weights={"w": np.ones((1, 2, 4, 4), np.float32)})
    with pytest.raises(ModelError, match=r"^the model: it has no input, so there is nothing to calibrate with; export"):
        load(model)


def test_model_of_strings() -> None:
    model = one_node("Identity", {"words": TensorProto.STRING})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(
        ModelError, match=r"^the model: input 'words' is STRING; only numbers can be fed: cut the model behind it$"
    ):
        load(model)


def test_model_with_an_invalid_graph() -> None:
    with pytest.raises(ModelError, match=r"^the model: the ONNX checker refuses it: .*; export it again$"):
        load(one_node("Relu", {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tiny: TinyModel, bad: float) -> None:
    model = tiny()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "conv.weight")
    values = numpy_helper.to_array(weight).copy()
    values[1, 2, 0, 0] = bad
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(ModelError, match=r"weight 'conv\.weight' of Conv 'conv' holds NaN or infinity; training"):
        load(model)


def test_size_left_open(tiny: TinyModel) -> None:
    model = load(tiny(size="side"))
    with pytest.raises(
        ModelError,
        match=r"input 'image': shape \(batch, 3, side, side\) is open beyond the batch; fix it, "
        r"e\.g\. --input-shape image:1,3,224,224, or export the model with a fixed size$",
    ):
        sample_shape(model)


def test_infinity_that_is_meant() -> None:
    start = {"start": np.full((1, 2, 4, 4), -np.inf, np.float32)}
    assert [node.op_type for node in load(one_node("Max", {"x": TensorProto.FLOAT}, start)).graph] == ["Max"]
    with pytest.raises(ModelError, match=r"weight 'start' of Max 'the-node' holds NaN or infinity; training"):
        load(one_node("Max", {"x": TensorProto.FLOAT}, {"start": np.full((1, 2, 4, 4), np.nan, np.float32)}))


def test_a_question_mark_names_no_dimension() -> None:
    model = one_node("Relu", {"x": TensorProto.FLOAT})
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "?"
    assert sample_shape(load(model, input_shapes={"x": (1, 2, 48, 192)})) == (2, 48, 192)


# What is made of the rest


def test_old_opset_is_upgraded_and_computes_the_same(tiny: TinyModel) -> None:
    old = tiny(opset=9)
    new = load(old)
    assert new.opset_imports[""] == MINIMUM_OPSET
    images = np.random.default_rng(0).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    outputs = [
        ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]
        for content in (old.SerializeToString(), to_bytes(new))
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-6)


def test_new_opset_is_kept(tiny: TinyModel) -> None:
    assert load(tiny(opset=21)).opset_imports[""] == 21


def test_model_in_memory_is_not_changed(tiny: TinyModel) -> None:
    proto = tiny()
    before = proto.SerializeToString(deterministic=True)
    load(proto)
    assert proto.SerializeToString(deterministic=True) == before
    model = ir.from_proto(proto)
    assert load(model) is not model


def test_constant_nodes_become_initializers() -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32)))
    model = one_node("Conv", {"x": TensorProto.FLOAT}, weights={"w": np.ones((3, 2, 1, 1), np.float32)})
    del model.graph.initializer[:]
    model.graph.node.insert(0, constant)
    loaded = load(model)
    assert [node.op_type for node in loaded.graph] == ["Conv"]
    assert [node.name for node in weighted_nodes(loaded)] == ["the-node"]


def test_every_node_has_a_name_of_its_own(tiny: TinyModel) -> None:
    model = tiny()
    for node in model.graph.node:
        node.name = "same" if node.op_type in ("Conv", "Relu") else ""
    names = [node.name for node in load(model).graph]
    assert len(set(names)) == len(model.graph.node)
    assert all(names)


def test_local_functions_are_inlined() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Block", ["x"], ["y"], "block", domain="local")], "g", value[:1], value[1:]
        ),
        opset_imports=opset,
        functions=[helper.make_function("local", "Block", ["a"], ["c"], body, opset[:1])],
        ir_version=8,
    )
    assert [node.op_type for node in load(model).graph] == ["Relu", "Neg"]


def test_inputs_leave_out_initializers_and_prefer_images() -> None:
    model = one_node("Conv", {"x": TensorProto.FLOAT}, weights={"w": np.ones((3, 2, 1, 1), np.float32)})
    model.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2, 1, 1]))
    loaded = load(model)
    assert [value.name for value in input_values(loaded)] == ["x"]
    two = one_node("Add", {"scale": TensorProto.FLOAT, "picture": TensorProto.FLOAT})
    two.graph.input[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, [4]).type.tensor_type.shape
    )
    assert main_input_value(load(two)).name == "picture"


def test_scores(tiny: TinyModel) -> None:
    assert score_count(load(tiny(classes=7))) == 7
    assert score_count(load(one_node("Relu", {"x": TensorProto.FLOAT}))) is None


# Facts, counted with onnx alone


def _counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("name", ["digits_bn", "digits_folded"])
def test_facts_about_the_example(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    model = load(path)
    assert len(batch_normalizations(model)) == _counts(path)["BatchNormalization"] == (9 if "bn" in name else 0)
    assert [node.op_type for node in weighted_nodes(model)] == ["Conv"] * 9 + ["Gemm"]
    assert sample_shape(model) == (1, 16, 16)
    assert score_count(model) == 10
    initializers = onnx.load(path).graph.initializer
    elements = sum(int(np.prod(tensor.dims)) for tensor in initializers if tensor.data_type == TensorProto.FLOAT)
    assert parameter_count(model.graph.initializers.values()) == elements


@pytest.mark.parametrize("kind", ["bn", "folded"])
@pytest.mark.parametrize("name", ["resnet20", "resnet56", "resnet20_kd", "wrn16_1_kd", "mobilenet_v1"])
def test_facts_about_real_models(zoo: Path, name: str, kind: str) -> None:
    spec = json.loads((zoo / "zoo.json").read_text())["models"][name]
    path = zoo / spec[kind]
    model = load(path)
    counts = _counts(path)
    assert len(batch_normalizations(model)) == counts["BatchNormalization"]
    assert len(weighted_nodes(model)) == counts["Conv"] + counts["Gemm"] + counts["MatMul"]
    assert sample_shape(model) == ((3, 224, 224) if name == "mobilenet_v1" else (3, 32, 32))
    assert score_count(model) == spec["classes"]


def test_bytes_run_in_onnx_runtime_and_keep_names_and_open_batch(digits_bn: Path) -> None:
    session = ort.InferenceSession(to_bytes(load(digits_bn)), providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("image", ["batch", 1, 16, 16])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("scores", ["batch", 10])]
    images = np.random.default_rng(0).normal(0, 1, (3, 1, 16, 16)).astype(np.float32)
    original = ort.InferenceSession(str(digits_bn), providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]
    np.testing.assert_allclose(session.run(None, {"image": images})[0], original, atol=1e-5)
