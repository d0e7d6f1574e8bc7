"""The forms in which graphs come: old opsets, huge files, tied weights, computed weights, control flow, functions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dfq_deploy.graph.inputs import model_inputs
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Twin

Array = NDArray[Any]
ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def ran(model: onnx.ModelProto | ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else to_bytes(model)
    found: list[Array] = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, dict(feeds))
    return found


def agree(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> ir.Model:
    """Load it; the loaded graph and its twin compute what ONNX Runtime computes of the original."""
    loaded = load(model)
    expected = ran(model, feeds)
    twin = Twin.from_model(loaded).run({name: torch.from_numpy(np.asarray(array)) for name, array in feeds.items()})
    for value, wanted, found in zip(loaded.graph.outputs, expected, ran(loaded, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(twin[str(value.name)].numpy(), wanted, rtol=1e-4, atol=1e-5)
    return loaded


# Opsets

OLD = {
    7: 'u = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (r) y = GlobalAveragePool(u)',
    8: "s = Sum(r, r, r) m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (s) y = Softmax <axis = 1> (m)",
    9: "p = Pad <pads = [0,0,1,1,0,0,1,1], value = 0.5> (r) y = BatchNormalization <epsilon = 0.1> (p, one, a, a, one)",
    10: "d = Dropout <ratio = 0.5> (r) y = Slice(d, from, to, axes)",
    11: "q = Squeeze <axes = [0]> (r) k = Unsqueeze <axes = [0]> (q) y = ReduceSum <axes = [2,3], keepdims = 0> (k)",
    12: "f, g = Split <axis = 1, split = [2,4]> (r) k = Clip(g, zero, six) y = Concat <axis = 1> (f, k)",
}
CONSTANTS: dict[str, Array] = {
    "one": np.ones(6, np.float32),
    "a": normal(6, seed=5),
    "from": np.array([0, 1]),
    "to": np.array([4, 100]),
    "axes": np.array([1, 3]),
    "zero": np.array(0, np.float32),
    "six": np.array(0.6, np.float32),
}


@pytest.mark.parametrize("opset", OLD)
def test_old_opsets_compute_the_same(model_of: ModelOf, opset: int) -> None:
    text = f"c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) {OLD[opset]}"
    names = {word for part in text.split("(")[1:] for word in part.split(")")[0].replace(",", " ").split()}
    weights = {name: array for name, array in CONSTANTS.items() if name in names} | {"w": normal(6, 3, 3, 3)}
    model = model_of("float[1,3,8,8] x", "float y", text, weights, opset=opset)
    loaded = agree(model, {"x": normal(1, 3, 8, 8, seed=1)})
    assert loaded.opset_imports[""] == 13


# Weights


def test_tied_weights_are_quantized_once(model_of: ModelOf, tmp_path: Path) -> None:
    """One matrix in two layers, and the same one transposed in a third, as language models tie their embedding."""
    text = "h = MatMul(x, w) r = Relu(h) k = MatMul(r, w) t = Relu(k) y = Gemm <transB = 1> (t, w)"
    model = model_of("float[n,16] x", "float[n,16] y", text, {"w": normal(16, 16)})
    agree(model, {"x": normal(3, 16, seed=1)})
    found = calibrate(model, data=Samples(normal(32, 16, seed=2)), output=tmp_path / "out")
    # Its columns in two products and its rows in the third: only one scale for all of it serves both.
    assert found.encodings["w"].axis is None
    (output,) = found.report["comparison"]["outputs"]
    assert output["snr_db"] > 20
    quantized = onnx.load(tmp_path / "out/model.qdq.onnx")
    assert (
        sum(tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2 for tensor in quantized.graph.initializer)
        == 1
    )


def test_an_initializer_that_is_also_an_input_is_a_weight(model_of: ModelOf, tmp_path: Path) -> None:
    """Files of IR version 3 list all of them."""
    weights = {"w": normal(8, 3, 3, 3), "b": normal(8, seed=1)}
    model = model_of(
        "float[n,3,8,8] x, float[8,3,3,3] w, float[8] b", "float y", "c = Conv(x, w, b) y = Relu(c)", weights
    )
    loaded = agree(model, {"x": normal(2, 3, 8, 8, seed=2)})
    assert [port.name for port in model_inputs(loaded)] == ["x"]
    found = calibrate(model, synth="procedural", count=8, output=tmp_path / "out")
    session = ort.InferenceSession(tmp_path / "out/model.qdq.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["x"]
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20


@pytest.mark.parametrize("axis", [None, 0])
def test_weights_that_a_dequantize_linear_computes_are_weights(
    model_of: ModelOf, tmp_path: Path, axis: int | None
) -> None:
    integers = np.random.default_rng(0).integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    scale = np.array(0.01, np.float32) if axis is None else np.linspace(0.005, 0.02, 8, dtype=np.float32)
    text = f"w = DequantizeLinear <axis = {axis or 0}> (q, s) c = Conv(x, w) y = Relu(c)"
    model = model_of("float[n,3,8,8] x", "float y", text, {"q": integers, "s": scale})
    loaded = agree(model, {"x": normal(2, 3, 8, 8, seed=2)})
    assert [node.op_type for node in loaded.graph] == ["Conv", "Relu"]
    # Integers times a scale: eight bits for each channel hold them again, where their sums may be of any size.
    found = calibrate(model, synth="procedural", count=8, refine=[], target="web")
    assert found.encodings["w"].axis == 0
    exact = integers * scale.reshape(-1, 1, 1, 1) if axis == 0 else integers * scale
    np.testing.assert_allclose(found.encodings["w"].fake_quantize(exact), exact, atol=float(scale.max()) / 2 + 1e-6)


# Normalization

NORMALIZED = {
    "one axis": ("n,4,20", "c = Conv(x, w)", {"w": normal(6, 4, 3)}, True),
    "three axes": ("n,2,5,5,5", "c = Conv(x, w)", {"w": normal(6, 2, 2, 2, 2)}, True),
    "behind Gemm": ("n,10", "c = Gemm(x, w, d)", {"w": normal(10, 6), "d": normal(6, seed=1)}, True),
    "behind MatMul": ("n,10", "c = MatMul(x, w)", {"w": normal(10, 6)}, False),
    "behind MatMul and Add": (
        "n,10",
        "m = MatMul(x, w) c = Add(m, d)",
        {"w": normal(10, 6), "d": normal(6, seed=1)},
        False,
    ),
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalization_of_every_rank(model_of: ModelOf, tmp_path: Path, name: str) -> None:
    shape, text, weights, folds = NORMALIZED[name]
    parameters = {key: normal(6, seed=seed) for seed, key in enumerate(("scale", "shift", "mean"))}
    parameters["var"] = np.abs(normal(6, seed=3)) + np.float32(0.1)
    nodes = f"{text} b = BatchNormalization(c, scale, shift, mean, var) y = Relu(b)"
    model = model_of(f"float[{shape}] x", "float y", nodes, {**weights, **parameters})
    images = normal(16, *(int(size) for size in shape.split(",")[1:]), seed=4)
    loaded = agree(model, {"x": images})
    assert len(fold_batch_normalization(loaded)) == folds
    np.testing.assert_allclose(ran(loaded, {"x": images})[0], ran(model, {"x": images})[0], atol=1e-4)
    found = calibrate(model, data=Samples(images), output=tmp_path / "out")
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20


# Control flow and functions


def chosen(condition: str, opset: int = 17) -> onnx.ModelProto:
    """An If between two convolutions of the same input, and another convolution behind it."""
    branches = {
        name: helper.make_graph(
            [helper.make_node("Conv", ["x", weight], [name], f"in_{name}")],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, weight in (("then", "v"), ("else", "w"))
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "two"], ["loud"]),
    ]
    choose = helper.make_node(
        "If", [condition], ["i"], "choose", then_branch=branches["then"], else_branch=branches["else"]
    )
    weights: dict[str, Array] = {"v": normal(4, 3, 3, 3), "w": normal(4, 3, 3, 3, seed=1), "last": normal(2, 4, 1, 1)}
    weights |= {"two": np.array(2, np.float32), "always": np.array(True)}
    return helper.make_model(
        helper.make_graph(
            [*(nodes if condition == "loud" else []), choose, helper.make_node("Conv", ["i", "last"], ["y"], "behind")],
            "chosen",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 6, 6])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def test_a_choice_that_is_constant_is_made_at_load() -> None:
    loaded = agree(chosen("always"), {"x": normal(2, 3, 8, 8)})
    assert [node.op_type for node in loaded.graph] == ["Conv", "Conv"]
    assert "w" not in calibrate(chosen("always"), synth="procedural", count=8).encodings


def test_a_concat_loses_what_is_empty(model_of: ModelOf) -> None:
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "empty": np.zeros((1, 0, 4, 4), np.float32)}
    nodes = "c = Conv(x, w) k = Concat <axis = 1> (empty, c, x, empty) y = Relu(k)"
    model = load(model_of("float[1,3,4,4] x", "float[1,5,4,4] y", nodes, weights))
    (concat,) = (node for node in model.graph if node.op_type == "Concat")
    assert [value.name for value in concat.inputs if value is not None] == ["c", "x"]
    result = calibrate(model, synth="noise", count=8, target="qnn", floor="none")
    assert "rules" not in {finding["code"] for finding in result.report["verdict"]["findings"]}


def test_a_choice_at_run_time_keeps_its_branches_in_float_by_name() -> None:
    for factor in (0.1, 10):
        agree(chosen("loud"), {"x": normal(2, 3, 8, 8) * np.float32(factor)})
    found = calibrate(chosen("loud"), synth="procedural", count=8)
    left = {(entry["name"], entry["reason"].partition(",")[0]) for entry in found.report["left_float"]}
    assert left == {(name, "it stands inside a subgraph") for name in ("in_then", "in_else")}
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20


def test_a_loop_keeps_its_body_in_float_by_name() -> None:
    values = [
        helper.make_tensor_value_info("turn", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["s", "w"], ["t"], "in_body", pads=[1, 1, 1, 1]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        values,
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, None),
        ],
    )
    weights: dict[str, Array] = {"w": normal(3, 3, 3, 3) / 3, "v": normal(2, 3, 1, 1), "often": np.array(3)}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Loop", ["often", "", "x"], ["l"], "repeat", body=body),
                helper.make_node("Conv", ["l", "v"], ["y"], "behind"),
            ],
            "repeated",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 8, 8])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    agree(model, {"x": normal(2, 3, 8, 8, seed=3)})
    found = calibrate(model, synth="procedural", count=8)
    assert [(entry["name"], entry["operator"]) for entry in found.report["left_float"]] == [("in_body", "Conv")]
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20


def test_functions_within_functions_are_inlined_and_quantized(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = helper.make_function(
        "local", "Step", ["a", "k"], ["b"], [helper.make_node("Conv", ["a", "k"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["b"])], opsets[:1],
    )  # fmt: skip
    outer = helper.make_function(
        "local", "Two", ["a", "k", "l"], ["c"], [helper.make_node("Step", ["a", "k"], ["b"], domain="local"),
        helper.make_node("Step", ["b", "l"], ["c"], domain="local")], opsets,
    )  # fmt: skip
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Two", ["x", "v", "w"], ["y"], "both", domain="local")],
            "functions",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 4, 4])],
            [numpy_helper.from_array(normal(4, 3, 3, 3), "v"), numpy_helper.from_array(normal(2, 4, 3, 3), "w")],
        ),
        opset_imports=opsets,
        functions=[inner, outer],
        ir_version=8,
    )
    loaded = agree(model, {"x": normal(2, 3, 8, 8, seed=1)})
    assert [node.op_type for node in loaded.graph] == ["Conv", "Relu", "Conv", "Relu"]
    found = calibrate(model, synth="procedural", count=8, output=tmp_path / "out")
    assert {"v", "w"} <= set(found.encodings)
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20


# Other floats, and files of samples


def test_bfloat16_is_computed_in_float32(tmp_path: Path) -> None:
    kind = TensorProto.BFLOAT16
    weights = {"w": normal(8, 3, 3, 3), "g": normal(8, 5)}
    tensors = [helper.make_tensor(name, kind, array.shape, array.ravel().tolist()) for name, array in weights.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "g"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "brain",
            [helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", kind, ["n", 5])],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )
    images = normal(4, 3, 8, 8, seed=2)
    found = calibrate(model, synth="procedural", count=8, output=tmp_path / "out")
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20
    loaded = load(model)
    assert any(
        "outputs of bfloat16, which NumPy has no type for, become float32" in note for note in load_notes(loaded)
    )
    assert {value.dtype for value in (*loaded.graph.inputs, *loaded.graph.outputs)} == {ir.DataType.FLOAT}
    rounded = {name: to_bfloat16(array) for name, array in weights.items()}
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for value in (*plain.graph.input, *plain.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    del plain.graph.initializer[:]
    plain.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in rounded.items())
    expected = np.asarray(next(iter(ReferenceEvaluator(plain).run(None, {"x": images}))))
    np.testing.assert_allclose(ran(loaded, {"x": images})[0], expected, atol=1e-5)


def to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """To the nearest bfloat16, by hand: the upper half of the bits, ties to even."""
    bits = array.view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32)


def test_a_file_of_samples_with_channels_last_and_a_second_input(model_of: ModelOf, tmp_path: Path) -> None:
    text = "i = Transpose <perm = [0,3,1,2]> (x) c = Conv(i, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) "
    model = model_of(
        "float[n,8,8,3] x, float[n,6] state",
        "float[n,5] y",
        text + "a = Add(f, state) y = MatMul(a, g)",
        {"w": normal(6, 3, 3, 3), "g": normal(6, 5)},
    )
    images, states = normal(16, 8, 8, 3, seed=1), normal(16, 6, seed=2)
    arrays: dict[str, Any] = {"images": images, "input:state": states}
    np.savez(tmp_path / "data.npz", **arrays)
    data = Samples.load(tmp_path / "data.npz")
    found = calibrate(model, data=data, output=tmp_path / "out")
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 20
    expected, given = (
        ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": images, "state": states})[0]
        for content in (model.SerializeToString(), tmp_path / "out/model.qdq.onnx")
    )
    assert np.square(expected).sum() > 100 * np.square(expected - given).sum()
