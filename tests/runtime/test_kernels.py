"""Layers counted in ONNX Runtime's optimized graph: against its own file, and against hand counts."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.errors import ModelError
from dfq_deploy.runtime.kernel_count import Kernel, KernelCount, named
from dfq_deploy.runtime.kernels import count_kernels

ModelOf = Callable[..., onnx.ModelProto]


def scalar(value: float, dtype: type = np.float32) -> NDArray[Any]:
    return np.array(value, dtype)


ARRAYS: Mapping[str, NDArray[Any]] = {
    **{"s": scalar(0.5), "z": scalar(0, np.uint8), "s2": scalar(0.25), "z2": scalar(0, np.uint8)},
    **{"w": np.ones((16, 16), np.int8), "v": scalar(0.5), "o": scalar(0, np.int8)},
    **{"b": np.ones(16, np.int32), "t": scalar(0.25), "bf": np.ones(16, np.float32)},
    **{"k": np.ones((16, 16, 3, 3), np.int8), "wf": np.ones((16, 16), np.float32)},
}

READ = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(w, v, o)"
IMAGE = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(k, v, o)"
CONV = "c = Conv <pads = [1, 1, 1, 1]> (d, e)"
WRITE = "p = QuantizeLinear(c, s2, z2) h = DequantizeLinear(p, s2, z2)"


def by_hand(path: Path) -> Counter[str]:
    """How many nodes of each operator ONNX Runtime's own file has."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path.with_suffix(".optimized")).graph.node)


def dense(model_of: ModelOf, nodes: str) -> onnx.ModelProto:
    return model_of("float[n,16] x", "float[n,16] y", nodes, {k: a for k, a in ARRAYS.items() if k in nodes})


def test_a_matrix_product_that_the_optimizer_fuses_into_float(model_of: ModelOf) -> None:
    count = count_kernels(dense(model_of, f"{READ} m = MatMul(d, e) y = Add(m, bf)"))
    assert count.kernels == (Kernel("m", "MatMul", "Gemm", "float", 256, dequantized=True, weights=256),)
    assert (count.integer, count.total, count.share, count.float_share) == (0, 1, 0.0, 1.0)
    assert "[1, 1, N]" in count.way_out
    assert str(count) == "0 of 1 layers in INT8 (0.0 % of the products)"


@pytest.mark.parametrize(
    ("nodes", "kernel"),
    [
        (f"{READ} y = MatMul(d, e)", "MatMulIntegerToFloat"),
        (f"{READ} f = DequantizeLinear(b, t) y = Gemm(d, e, f)", "QGemm"),
        (f"{READ} c = MatMul(d, e) p = QuantizeLinear(c, s2, z2) y = DequantizeLinear(p, s2, z2)", "QLinearMatMul"),
    ],
)
def test_matrix_products_of_integers(model_of: ModelOf, nodes: str, kernel: str) -> None:
    count = count_kernels(dense(model_of, nodes))
    assert [(entry.kernel, entry.kind, entry.macs) for entry in count.kernels] == [(kernel, "integer", 256)]
    assert (count.dequantized, count.way_out, count.reason) == ((), "", "")
    assert str(count) == "1 of 1 layers in INT8"


def test_a_weight_that_meets_a_float_activation(model_of: ModelOf) -> None:
    weights = {name: ARRAYS[name] for name in ("v", "o", "k")}
    nodes = "e = DequantizeLinear(k, v, o) y = Conv(x, e)"
    (kernel,) = count_kernels(model_of("float[1,16,8,8] x", "float[1,16,6,6] y", nodes, weights)).kernels
    assert (kernel.name, kernel.kind, kernel.dequantized) == ("y", "float", True)


def test_a_float_file_names_its_layers_whatever_the_optimizer_calls_them(model_of: ModelOf) -> None:
    # The kernels of blocked layouts are named after the tensors that they write.
    weights = {"a": np.ones((16, 3, 3, 3), np.float32), "b": np.ones((16, 16, 3, 3), np.float32)}
    weights["h"] = 2 * weights["b"]
    nodes = "c = Conv (x, a) r = Relu(c) e = Conv (r, b) f = Conv(r, h) g = Add(e, f) y = Relu(g)"
    model = model_of("float[1,3,8,8] x", "float[1,16,4,4] y", nodes, weights)
    count = count_kernels(model)
    assert sorted(kernel.name for kernel in count.kernels) == ["c", "e", "f"]
    assert [kernel.macs for kernel in count.in_float] == [16 * 16 * 9 * 16, 16 * 16 * 9 * 16, 3 * 16 * 9 * 36]
    assert (count.integer, count.dequantized, count.conversions) == (0, (), 0)


def test_float_nodes_between_integer_layers(model_of: ModelOf) -> None:
    nodes = (
        f"{IMAGE} {CONV} {WRITE} r = Softplus(h) u = Identity(r) i = QuantizeLinear(u, s, z) "
        "j = DequantizeLinear(i, s, z) y = Conv(j, e)"
    )
    weights = {name: ARRAYS[name] for name in ("s", "z", "s2", "z2", "v", "o", "k")}
    count = count_kernels(model_of("float[1,16,8,8] x", "float[1,16,6,6] y", nodes, weights))
    # The last one has no Q behind it, and QLinearConv writes integers only.
    assert [(kernel.name, kernel.kind) for kernel in count.kernels] == [("c", "integer"), ("y", "float")]
    assert count.between == ("r",)
    assert count.share == pytest.approx(64 / (64 + 36))


def test_inside_a_loop(model_of: ModelOf) -> None:
    body = onnx.parser.parse_graph(
        "step (int64 i, bool going, float[2,16] a) => (bool more, float[2,16] r) "
        "{ more = Identity(going) r = MatMul(a, wf) }"
    )
    nodes = [helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)]
    graph = helper.make_graph(
        nodes,
        "looped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])],
        [numpy_helper.from_array(np.array(3), "count"), numpy_helper.from_array(ARRAYS["wf"], "wf")],
    )
    count = count_kernels(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert count.kernels == (Kernel("r", "MatMul", "MatMul", "float", weights=256),)
    assert (count.share, count.float_share) == (None, 1.0)


def test_integers_that_are_multiplied_in_float() -> None:
    def n_bits(level: int) -> KernelCount:
        packed = np.zeros((16, 1, 16), np.uint8)
        nodes = [
            helper.make_node(
                "MatMulNBits", ["x", "w", "v"], ["y"], "fc", domain="com.microsoft",
                K=32, N=16, bits=4, block_size=32, accuracy_level=level,
            )
        ]  # fmt: skip
        graph = helper.make_graph(
            nodes,
            "blocks",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
            [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(np.ones(16, np.float32), "v")],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return count_kernels(helper.make_model(graph, opset_imports=opsets, ir_version=8))

    stored, multiplied = n_bits(0), n_bits(4)
    assert (stored.integer, stored.weight_only, stored.in_float) == (0, 1, ())
    assert str(stored).endswith("0 of 1 layers in INT8 (0.0 % of the products), 1 with integer weights, float products")
    assert (multiplied.integer, multiplied.weight_only) == (1, 0)
    assert multiplied.kernels[0].macs == 32 * 16


def test_other_targets_are_counted_by_their_q_and_dq(model_of: ModelOf) -> None:
    model = dense(model_of, f"{READ} m = MatMul(d, e) y = Add(m, bf)")
    count = count_kernels(model, "tensorrt")
    assert (count.integer, count.total) == (1, 1)
    assert count.reason == "tensorrt's own graph cannot be read here"
    assert str(count).endswith("by the placement of Q and DQ (tensorrt's own graph cannot be read here)")
    half = dense(model_of, "e = DequantizeLinear(w, v, o) y = MatMul(x, e)")
    assert count_kernels(half, "tensorrt").kernels[0].dequantized


def test_what_onnx_runtime_cannot_load_is_counted_by_its_q_and_dq(model_of: ModelOf) -> None:
    model = dense(model_of, f"{READ} m = MatMul(d, e) y = Relu(m)")
    model.graph.node[-1].CopyFrom(helper.make_node("Wobble", ["m"], ["y"], domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    count = count_kernels(model)
    assert count.integer == 1
    assert count.reason == "ONNX Runtime does not have acme::Wobble"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        count_kernels(tmp_path / "none.onnx")


def test_names_are_listed_in_part() -> None:
    kernels = [Kernel(f"fc{index}", "Gemm", "Gemm", "float") for index in range(5)]
    assert named(kernels) == "Gemm 'fc0', Gemm 'fc1', Gemm 'fc2', and 2 more"
    assert named(kernels[:1]) == "Gemm 'fc0'"


@pytest.mark.parametrize("net", ["akamaster_resnet20_cifar10", "mobilenet_v1_075_224", "vit_cifar10"])
def test_real_networks_against_the_file_of_onnx_runtime(zoo: Path, tmp_path: Path, net: str) -> None:
    import dfq_deploy

    result = dfq_deploy.calibrate(
        zoo / "models" / f"{net}.onnx", synth="procedural", count=8, method="minmax", refine=[], output=tmp_path / "q"
    )
    assert result.model_path is not None
    nodes = by_hand(result.model_path)
    floats = sum(nodes[name] for name in ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"))
    integers = sum(nodes[name] for name in ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"))
    count = count_kernels(result.model_path)
    assert (count.integer, count.total) == (integers, integers + floats)
    assert count.conversions == nodes["QuantizeLinear"] + nodes["DequantizeLinear"]
    float_names = {node.name for node in onnx.load(zoo / "models" / f"{net}.onnx").graph.node}
    written = {node.name for node in onnx.load(result.model_path).graph.node}
    assert {kernel.name for kernel in count.kernels} <= written
    assert len({kernel.name for kernel in count.kernels} - float_names) <= 1  # what a last 1 by 1 convolution becomes


def test_a_scale_that_the_optimizer_computes_as_a_convolution_is_no_layer(model_of: ModelOf) -> None:
    arrays = {"f": np.ones((16, 16, 3, 3), np.float32), "m": np.arange(1, 17, dtype=np.float32).reshape(1, 16, 1, 1)}
    nodes = (
        "a = Conv <pads = [1, 1, 1, 1]> (x, f) h = HardSigmoid(a) p = Mul(h, m) y = Conv <pads = [1, 1, 1, 1]> (p, f)"
    )
    model = model_of("float[n,16,8,8] x", "float[n,16,8,8] y", nodes, arrays)
    assert [kernel.name for kernel in count_kernels(model).kernels] == ["a", "y"]


def test_a_layer_whose_weight_is_float_is_not_quantized_in_vain(model_of: ModelOf) -> None:
    nodes = f"{READ} m = MatMul(d, e) p = QuantizeLinear(m, s2, z2) g = DequantizeLinear(p, s2, z2) y = MatMul(g, wf)"
    count = count_kernels(dense(model_of, nodes))
    assert [(kernel.name, kernel.kind, kernel.dequantized) for kernel in count.in_float] == [("y", "float", False)]
    assert (count.dequantized, count.way_out) == ((), "")
