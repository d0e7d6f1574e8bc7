"""Dense layers, as exporters write them, in the forms that have integer kernels."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import Samples, calibrate
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.dense_layers import normalize_dense_layers

Floats = NDArray[np.float32]

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((16, 8)).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)


def _model(nodes: list[Any], shape: list[int | str], **constants: Floats) -> onnx.ModelProto:
    """The nodes between ``x`` and ``y``."""
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _dense(shape: list[int | str], bias: Floats = BIAS, *, bias_first: bool = False) -> onnx.ModelProto:
    """MatMul and Add, as torch, Keras and tf2onnx write a dense layer."""
    operands = ["b", "m"] if bias_first else ["m", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], name="dense"), helper.make_node("Add", operands, ["y"])]
    return _model(nodes, shape, w=WEIGHT, b=bias)


def _gemm(
    shape: list[int | str], bias: Floats | None = BIAS, weight: Floats = WEIGHT, **attributes: Any
) -> onnx.ModelProto:
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    return _model([helper.make_node("Gemm", ["x", *constants], ["y"], name="dense", **attributes)], shape, **constants)


def _run(model: onnx.ModelProto | str, x: Floats) -> Floats:
    source = model if isinstance(model, str) else model.SerializeToString()
    result: Floats = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return result


def _normalized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    loaded = load(model)
    done = normalize_dense_layers(loaded)
    return ir.to_proto(loaded), done


def _optimized(path: Path, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


LEFT = _model(
    [helper.make_node("MatMul", ["w", "x"], ["y"], name="dense")], ["N", 3, 8, 5], w=WEIGHT
)  # a weight on the left of a product of matrices

LEFT_GEMM = _model(
    [helper.make_node("Gemm", ["w", "x", "b"], ["y"], name="dense", alpha=0.5, beta=2.0, transA=1, transB=1)],
    [5, 16],
    w=WEIGHT,
    b=BIAS[:, None],
)

FORMS = {
    "rank 2": (_dense(["N", 16]), (4, 16), ["Gemm"]),
    "rank 2, static": (_dense([4, 16]), (4, 16), ["Gemm"]),
    "bias first": (_dense(["N", 16], bias_first=True), (4, 16), ["Gemm"]),
    "bias (1, N)": (_dense(["N", 16], BIAS[None]), (4, 16), ["Gemm"]),
    "one number": (_dense(["N", 16], BIAS[:1]), (4, 16), ["Gemm"]),
    "rank 3": (_dense(["N", 5, 16]), (2, 5, 16), ["Add", "MatMul"]),
    "rank 3, static": (_dense([1, 5, 16]), (1, 5, 16), ["Add", "MatMul"]),
    "rank 4": (_dense(["N", 3, 5, 16]), (2, 3, 5, 16), ["Add", "MatMul"]),
    "alpha, beta": (_gemm(["N", 16], alpha=0.5, beta=2.0), (4, 16), ["Gemm"]),
    "transA": (_gemm([16, "N"], transA=1), (16, 4), ["Gemm", "Transpose"]),
    "transB, scalar": (_gemm(["N", 16], BIAS[:1], WEIGHT.T.copy(), transB=1), (4, 16), ["Gemm"]),
    "row for each sample": (_gemm([4, 16], np.tile(BIAS, (4, 1)), beta=0.5), (4, 16), ["Add", "Gemm"]),
    "alpha, no bias": (_gemm(["N", 16], None, alpha=3.0), (4, 16), ["Gemm"]),
    "Gemm, weight on the left": (LEFT_GEMM, (5, 16), ["Add", "MatMul", "Transpose", "Transpose", "Transpose"]),
    "weight on the left": (LEFT, (2, 3, 8, 5), ["MatMul", "Transpose", "Transpose"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_function_stays_and_the_form_has_a_kernel(form: str) -> None:
    model, shape, operators = FORMS[form]
    after, done = _normalized(model)
    x = RNG.standard_normal(shape).astype(np.float32)
    assert done == ("dense",)
    assert sorted(node.op_type for node in after.graph.node) == operators
    assert [output.name for output in after.graph.output] == ["y"]
    np.testing.assert_allclose(_run(after, x), _run(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_onnx_runtime_runs_it_in_integers(form: str, tmp_path: Path) -> None:
    model, shape, _ = FORMS[form]
    shape = (32, *shape[1:]) if model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N" else shape
    if form in ("transA", "Gemm, weight on the left"):
        pytest.skip("its first axis is not the batch, so it cannot be calibrated on several samples")
    samples = Samples(np.random.default_rng(1).standard_normal((max(8, shape[0]), *shape[1:])).astype(np.float32))
    result = calibrate(model_file(model, tmp_path), data=samples, refine=(), output=tmp_path / "out")
    found = _optimized(tmp_path / "out/model.qdq.onnx", tmp_path)
    assert found["QGemm"] + found["MatMulIntegerToFloat"] == 1, found
    assert not {"Gemm", "FusedGemm", "MatMul"} & set(found), found
    assert result.report["comparison"]["outputs"][0]["snr_db"] > 20


def model_file(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file."""
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_what_is_no_dense_layer_stays() -> None:
    residual = _model(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "x"], ["y"])],
        ["N", 16],
        w=np.eye(16, dtype=np.float32),
    )
    column = _dense([8, 16], BIAS[:, None])
    shared = _dense(["N", 16])
    shared.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, None))
    plain = _gemm(["N", 16])
    for model in (residual, column, shared, plain):
        assert _normalized(model)[1] == ()


@pytest.mark.parametrize("bias", [None, BIAS, BIAS[:1], BIAS[0]], ids=["none", "row", "one", "number"])
def test_a_vector_is_multiplied_as_a_row(bias: Floats | None) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y" if bias is None else "m"], name="dense")]
    nodes += [] if bias is None else [helper.make_node("Add", ["b", "m"], ["y"])]
    model = _model(nodes, [16], w=WEIGHT, **({} if bias is None else {"b": np.asarray(bias)}))
    normal, done = _normalized(model)
    assert done == ("dense",)
    product = "MatMul" if bias is None else "Gemm"
    assert [node.op_type for node in normal.graph.node] == ["Unsqueeze", product, "Squeeze"]
    x = RNG.standard_normal(16).astype(np.float32)
    np.testing.assert_allclose(_run(normal, x), _run(model, x), rtol=1e-5, atol=1e-6)


def test_a_vector_that_others_read_keeps_its_add() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="dense"),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("Mul", ["m", "s"], ["y"]),
    ]
    model = _model(nodes, [16], w=WEIGHT, b=BIAS)
    normal, done = _normalized(model)
    assert done == ("dense",)
    assert [node.op_type for node in normal.graph.node] == ["Unsqueeze", "MatMul", "Squeeze", "Add", "Mul"]
    x = RNG.standard_normal(16).astype(np.float32)
    np.testing.assert_allclose(_run(normal, x), _run(model, x), rtol=1e-5, atol=1e-6)


def test_layers_on_a_vector_run_in_integers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["y"], name="second"),
    ]
    model = _model(nodes, [16], w=WEIGHT, b=BIAS, v=np.ascontiguousarray(WEIGHT.T))
    calibrate(model, synth="procedural", count=8, output=tmp_path / "out")
    found = _optimized(tmp_path / "out/model.qdq.onnx", tmp_path)
    assert found["QGemm"] + found["MatMulIntegerToFloat"] == 2
    assert found["MatMul"] + found["Gemm"] == 0
