"""What RKNN-Toolkit2 asks of a file: Q and DQ around every kernel, float biases, integer outputs of small chips."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import Samples, calibrate, export
from dfq_deploy.checking import check
from dfq_deploy.errors import OptionError

ModelOf = Callable[..., onnx.ModelProto]

RNG = np.random.default_rng(0)


def normal(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return (0.3 * RNG.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize(("target", "integers"), [("rknn", False), ("rknn-rv1106", True)])
def test_a_residual_network(model_of: ModelOf, tmp_path: Path, target: str, integers: bool) -> None:
    nodes = """
        a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        r = Relu(a)
        c = Conv <pads = [1, 1, 1, 1]> (r, v, b)
        s = Add(c, r)
        p = GlobalAveragePool(s)
        f = Flatten(p)
        y = Gemm(f, g, h)
    """
    weights = {"w": normal(8, 3, 3, 3), "v": normal(8, 8, 3, 3), "b": normal(8), "g": normal(8, 4), "h": normal(4)}
    model = model_of("float[n, 3, 8, 8] x", "float[n, 4] y", nodes, weights)
    for node in model.graph.node:
        node.name = f"the_{node.output[0]}"
    onnx.save(model, tmp_path / "float.onnx")
    samples = Samples(RNG.normal(size=(8, 3, 8, 8)).astype(np.float32))
    calibrate(
        tmp_path / "float.onnx", data=samples, target=target, method="minmax", refine=(), floor="none",
        output=tmp_path / "out",
    )  # fmt: skip
    path = tmp_path / "out/model.qdq.onnx"
    written = onnx.load(path)
    quantized = {node.input[0] for node in written.graph.node if node.op_type == "QuantizeLinear"}
    # The Relu is folded into the convolution before it; the convolution before the Add has a scale of its own.
    assert {"x", "r", "c", "s", "p"} <= quantized
    last = {node.output[0]: node.op_type for node in written.graph.node}["y"]
    assert last == ("DequantizeLinear" if integers else "Gemm")
    types = {array.name: array.data_type for array in written.graph.initializer}
    layers = [node for node in written.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {types[node.input[2]] for node in layers} == {onnx.TensorProto.FLOAT}
    assert [dim.dim_value for dim in written.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert check(path, target).clean
    found = export(path, to="rknn", output=tmp_path / "net.onnx")
    assert found.notes == ("with RKNN-Toolkit2: load_onnx('net.onnx'), then build(do_quantization=False)",)


def test_scores_of_all_sizes_stay_integers_where_there_are_no_floats(model_of: ModelOf, tmp_path: Path) -> None:
    weight = normal(6, 3, 1, 1) * np.array([1, 100, 1, 1, 1, 1], np.float32).reshape(6, 1, 1, 1)
    text = "p = GlobalAveragePool(x) c = Conv(p, w, b) y = Flatten(c)"
    model = model_of("float[n, 3, 8, 8] x", "float[n, 6] y", text, {"w": weight, "b": normal(6)})
    samples = Samples(RNG.normal(size=(8, 3, 8, 8)).astype(np.float32))
    for target, integers in (("rknn", False), ("rknn-rv1106", True)):
        found = calibrate(
            model, data=samples, target=target, method="minmax", refine=(), floor="none", output=tmp_path / target
        )
        assert ("c" in found.encodings) is integers
        assert check(tmp_path / target / "model.qdq.onnx", target).clean


def test_nothing_stays_float_by_request_where_there_are_no_floats(model_of: ModelOf) -> None:
    model = model_of("float[n, 3, 8, 8] x", "float[n, 6, 8, 8] y", "y = Conv(x, w)", {"w": normal(6, 3, 1, 1)})
    model.graph.node[0].name = "only"
    samples = Samples(RNG.normal(size=(8, 3, 8, 8)).astype(np.float32))
    with pytest.raises(OptionError, match="runs integers only, so 'only' cannot stay float"):
        calibrate(model, data=samples, target="rknn-rv1106", keep_float=["only"])


@pytest.mark.parametrize(("target", "integers"), [("rknn", False), ("rknn-rv1106", True)])
def test_a_product_of_the_input(model_of: ModelOf, tmp_path: Path, target: str, integers: bool) -> None:
    """The build of RKNN-Toolkit2 2.5.0 does not end where it is quantized before the bias."""
    weights = {"w": normal(8, 6), "b": normal(6), "v": normal(6, 5), "c": normal(5)}
    nodes = "m = MatMul(x, w) a = Add(m, b) r = Relu(a) n = MatMul(r, v) y = Add(n, c)"
    model = model_of("float[n, 4, 8] x", "float[n, 4, 5] y", nodes, weights)
    samples = Samples(RNG.normal(size=(8, 4, 8)).astype(np.float32))
    found = calibrate(model, data=samples, target=target, method="minmax", refine=(), floor="none", output=tmp_path)
    assert {"x", "r", "n"} <= set(found.encodings)
    assert ("m" in found.encodings) is integers


@pytest.mark.parametrize("target", ["rknn", "rknn-rv1106"])
def test_a_layer_behind_a_normalization(model_of: ModelOf, tmp_path: Path, target: str) -> None:
    """RKNN-Toolkit2 2.5.0 refuses a float product before the bias there, and a LayerNormalization without epsilon."""
    nodes = "n = LayerNormalization(x, g, h) m = MatMul(n, w) a = Add(m, b) r = Relu(a) y = MatMul(r, v)"
    weights = {"g": normal(8), "h": normal(8), "w": normal(8, 6), "b": normal(6), "v": normal(6, 5)}
    model = model_of("float[n, 4, 8] x", "float[n, 4, 5] y", nodes, weights)
    samples = Samples(RNG.normal(size=(8, 4, 8)).astype(np.float32))
    calibrate(model, data=samples, target=target, method="minmax", refine=(), floor="none", output=tmp_path)
    written = onnx.load(tmp_path / "model.qdq.onnx")
    quantized = {node.input[0] for node in written.graph.node if node.op_type == "QuantizeLinear"}
    assert {"n", "m", "r"} <= quantized
    (normalization,) = (node for node in written.graph.node if node.op_type == "LayerNormalization")
    assert {entry.name: entry.f for entry in normalization.attribute}["epsilon"] == pytest.approx(1e-5)
    assert check(tmp_path / "model.qdq.onnx", target).clean
