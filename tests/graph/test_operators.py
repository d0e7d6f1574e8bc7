"""An operator is its domain and its name; a foreign one that shares a name is left alone wherever something decides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray

from dfq_deploy import check, inspect
from dfq_deploy.checking.view import view_of
from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import ModelError, UnsupportedOperators
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.graph.inputs import is_channels_last
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_integer_op, is_op, is_quantized_op, operator_of
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.passes.open_batch import open_batch
from dfq_deploy.graph.passes.own_biases import give_own_biases
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.graph.query import batch_normalizations, weighted_nodes
from dfq_deploy.graph.traversal import weighted_after
from dfq_deploy.quantization.bit_widths import is_channel_scale
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.placement.place import Placement, place
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.quantization.qdq_reader import constant_dequantizer
from dfq_deploy.quantization.ranges import derive_ranges
from dfq_deploy.refinement.cross_layer_equalization import pairs_of
from dfq_deploy.samples.batches import tensors_of_known_range
from dfq_deploy.synthesis.moments.moments import Moments
from dfq_deploy.synthesis.moments.propagation import propagate
from dfq_deploy.targets.catalog import TARGETS, find_target
from dfq_deploy.twin import Twin

ModelOf = Callable[..., onnx.ModelProto]
Mixed = Callable[..., onnx.ModelProto]
Arrays = Mapping[str, NDArray[Any]]

IMAGE = "float[n,4,8,8] x"

ARRAYS: Arrays = {
    **{"w": np.ones((4, 4, 3, 3), np.float32), "v": np.ones((4, 4, 3, 3), np.float32), "b": np.ones(4, np.float32)},
    **{"m": np.ones((4, 4), np.float32), "six": np.full((), 6, np.float32), "zero": np.zeros((), np.float32)},
    **{"axes": np.array([2, 3]), "shape": np.array([2, -1]), "whole": np.ones((4, 4, 3, 3), np.int8)},
    **{"s": np.full((), 0.5, np.float32), "z": np.zeros((), np.uint8), "zs": np.zeros((), np.int8)},
}


@pytest.fixture
def mixed(model_of: ModelOf) -> Mixed:
    """Builds a model from ONNX text, with the nodes that write ``foreign`` moved into a domain of their own."""

    def build(
        nodes: str,
        *foreign: str,
        domain: str = "my.domain",
        inputs: str = IMAGE,
        outputs: str = "float[n,a,b,c] y",
        opset: int = 17,
    ) -> onnx.ModelProto:
        words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
        used = {name: array for name, array in ARRAYS.items() if name in words}
        model = model_of(inputs, outputs, nodes, used, opset=opset)
        model.opset_import.add(domain=domain, version=1)
        for node in model.graph.node:
            node.name = f"make_{node.output[0]}"
            if node.output[0] in foreign:
                node.domain = domain
        return model

    return build


def placed(model: onnx.ModelProto, target: str = "cpu") -> Placement:
    return place(load(model), find_target(target))


def node_of(model: ir.Model, output: str) -> ir.Node:
    return next(node for node in model.graph if node.outputs[0].name == output)


@pytest.mark.parametrize(
    ("domain", "name"), [("", "Conv"), ("ai.onnx", "Conv"), ("my.domain", "my.domain::Conv"), ("x", "x::Conv")]
)
def test_the_domain_is_part_of_the_name(domain: str, name: str) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], domain=domain)
    assert operator_of(node) == name
    assert is_op(node, "Conv") == is_op(node, WEIGHTED_OPS) == (name == "Conv")
    assert is_op(node, name)
    assert not is_op(node, "ConvTranspose")  # a name is no table of letters
    assert operator_of(ir.node("Conv", [], domain=domain)) == name


@pytest.mark.parametrize(
    ("operator", "domain", "integer", "quantized"),
    [
        ("QuantizeLinear", "", False, True),
        ("DequantizeLinear", "com.microsoft", False, True),
        ("QLinearConv", "", True, True),
        ("QLinearAdd", "com.microsoft", True, True),
        ("QLinearAdd", "", False, False),
        ("DynamicQuantizeLinear", "ai.onnx", True, True),
        ("MatMulNBits", "com.microsoft", False, True),
        ("MatMulNBits", "my.domain", False, False),
        ("QuantizeLinear", "my.domain", False, False),
        ("Conv", "", False, False),
    ],
)
def test_operators_of_quantized_models(operator: str, domain: str, integer: bool, quantized: bool) -> None:
    node = onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)
    assert (is_integer_op(node), is_quantized_op(node)) == (integer, quantized)


def test_a_foreign_quantize_linear_makes_no_quantized_model(mixed: Mixed, tmp_path: Path) -> None:
    model = mixed("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", "q", "y")
    onnx.save(model, tmp_path / "model.onnx")
    assert is_quantized(tmp_path / "model.onnx") is False
    assert len(load(model).graph) == 2


def test_weights_of_few_bits_are_quantized_to_load_and_to_evaluate(mixed: Mixed, tmp_path: Path) -> None:
    model = mixed("y = MatMulNBits <K = 8, N = 4, bits = 4, block_size = 16> (x, m)", "y", domain="com.microsoft")
    onnx.save(model, tmp_path / "model.onnx")
    assert is_quantized(tmp_path / "model.onnx") is True
    with pytest.raises(ModelError, match=r"already quantized \(MatMulNBits 'make_y'\); give the float model"):
        load(model)


def test_weights_behind_q_and_dq_are_float_to_load_and_to_evaluate(mixed: Mixed, tmp_path: Path) -> None:
    model = mixed("q = QuantizeLinear(w, s, zs) d = DequantizeLinear(q, s, zs) y = Conv(x, d)")
    onnx.save(model, tmp_path / "model.onnx")
    assert is_quantized(tmp_path / "model.onnx") is False
    assert [node.op_type for node in load(model).graph] == ["Conv"]


@pytest.mark.parametrize("which", ["nodes and opset", "nodes", "opset"])
def test_ai_onnx_spelled_out_is_the_same_model(tiny: ModelOf, which: str) -> None:
    plain, spelled = tiny(), tiny()
    for entry in [
        *(spelled.graph.node if "nodes" in which else ()),
        *(spelled.opset_import if "opset" in which else ()),
    ]:
        entry.domain = "ai.onnx"
    mine, theirs = load(spelled), load(plain)
    assert ir.to_proto(mine).SerializeToString() == ir.to_proto(theirs).SerializeToString()
    assert inspect(spelled).operators == inspect(plain).operators
    assert inspect(spelled).opset == 17
    assert check(spelled, "cpu").violations == check(plain, "cpu").violations
    assert view_of(spelled).opset == 17


def test_ai_onnx_inside_a_branch(mixed: Mixed) -> None:
    first = "then_branch = g1 () => (float[n,4,8,8] t) {t = Relu(x)}"
    second = "else_branch = g2 () => (float[n,4,8,8] e) {e = Abs(x)}"
    model = mixed(f"y = If <{first}, {second}> (c)", inputs=f"{IMAGE}, bool c")
    for attribute in model.graph.node[0].attribute:
        attribute.g.node[0].domain = "ai.onnx"
    branches = [node for node in load(model).graph.all_nodes() if node.op_type != "If"]
    assert sorted(operator_of(node) for node in branches) == ["Abs", "Relu"]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_foreign_convolution_is_not_quantized(mixed: Mixed, target: str) -> None:
    both = placed(mixed("c = Conv(x, w) y = Conv(c, v)"), target)
    assert set(both.weights) == {"w", "v"}
    one = placed(mixed("c = Conv(x, w) y = Conv(c, v)", "y"), target)
    assert set(one.weights) == {"w"}
    assert "y" not in one.activations
    assert not one.left_float  # nothing is known of it, so it is no weighted operator that could not be quantized


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_is_behind_a_foreign_convolution_stays_float(mixed: Mixed, target: str) -> None:
    found = placed(mixed("c = Conv(x, w) y = Conv(c, v)", "c"), target)
    assert not found.weights
    assert [name for _, name, _ in found.left_float] == ["Conv"]


@pytest.mark.parametrize("target", ["cpu", "qnn"])
def test_a_foreign_relu_is_not_fused(mixed: Mixed, target: str) -> None:
    text = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    assert "c" not in placed(mixed(text), target).activations
    foreign = placed(mixed(text, "r"), target)
    assert "c" in foreign.activations
    assert "r" not in foreign.limits


def test_what_a_foreign_operator_moves_or_adds(mixed: Mixed) -> None:
    pool = "c = Conv(x, w) p = MaxPool <kernel_shape = [1, 1]> (c) y = Conv(p, v)"
    assert [sorted(group) for group in placed(mixed(pool)).shared] == [["c", "p"]]
    assert placed(mixed(pool, "p")).shared == ()
    gates = "c = Conv(x, w) a = Sigmoid(c) d = Sigmoid(a) y = Conv(d, v)"
    assert "a" in placed(mixed(gates)).activations
    assert "a" not in placed(mixed(gates, "d")).activations
    # TensorRT: Q and DQ on the branch of an Add, whose other side a convolution writes
    branch = "r = Sigmoid(x) c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Add(c, r)"
    assert "r" in placed(mixed(branch), "tensorrt").activations
    assert "r" not in placed(mixed(branch, "y"), "tensorrt").activations


def test_operands_of_a_foreign_operator_stay_float_where_everything_is_quantized(mixed: Mixed) -> None:
    text = "t = Mul(x, six) y = Conv(t, w)"
    assert "six" in placed(mixed(text), "qnn").constants
    foreign = placed(mixed(text, "t"), "qnn")
    assert "six" not in foreign.constants
    assert "x" not in foreign.activations


def test_saturation_behind_a_foreign_operator(mixed: Mixed) -> None:
    for foreign, found in (((), {"x"}), (("y",), set())):
        model = load(mixed("y = HardSigmoid(x)", *foreign))
        assert set(saturations([model.graph.inputs[0]])) == found


def test_a_foreign_logarithm_ends_no_front_end(mixed: Mixed) -> None:
    text = "a = MatMul(x, m) p = Mul(a, a) l = Log(p) y = MatMul(l, m)"
    for foreign, count in (((), 1), (("l",), 0), (("p",), 0)):
        model = load(mixed(text, *foreign, inputs="float[n,4,4] x", outputs="float[n,a,b] y"))
        assert len(spectral_nodes(model)) == count


def test_rewrites_leave_foreign_operators_alone(mixed: Mixed) -> None:
    normalized = "c = Conv(x, w) y = BatchNormalization(c, b, b, b, b)"
    assert fold_batch_normalization(load(mixed(normalized))) == ("make_y",)
    assert fold_batch_normalization(load(mixed(normalized, "c"))) == ()
    assert fold_batch_normalization(load(mixed(normalized, "y"))) == ()
    assert batch_normalizations(load(mixed(normalized, "y"))) == []
    pooled = "c = Conv(x, w) y = ReduceMean <axes = [2, 3]> (c)"
    assert lower(load(mixed(pooled)), find_target("cpu")) == ("make_y",)
    assert lower(load(mixed(pooled, "y")), find_target("cpu")) == ()
    assert list(give_own_biases(load(mixed("c = Conv(x, w) y = Conv(c, v)", "c")))) == ["y"]


def test_constants_of_foreign_operators_are_not_computed(mixed: Mixed) -> None:
    text = "k = Add(b, b) i = Identity(six) t = Mul(x, i) y = Mul(t, k)"
    for foreign, left in (((), []), (("k", "i"), ["my.domain::Add", "my.domain::Identity"])):
        model = load(mixed(text, *foreign, inputs="float[n,4] x", outputs="float[n,a] y"))
        fold_batch_normalization(model)  # resolves an Identity of an initializer
        assert [operator_of(node) for node in model.graph if not is_op(node, "Mul")] == left


def test_shapes_that_a_foreign_operator_reads(mixed: Mixed) -> None:
    for foreign, first in (((), 0), (("y",), 2)):
        model = load(mixed("y = Reshape(x, shape)", *foreign, inputs="float[2,4] x", outputs="float[2,4] y"))
        open_batch(model, 2)
        shape = node_of(model, "y").inputs[1]
        assert shape is not None
        assert shape.const_value is not None
        assert shape.const_value.numpy()[0] == first
    for foreign, count in (((), 0), (("h",), 1)):
        model = load(mixed("h = Shape(x) y = Expand(x, h)", *foreign))
        fix_batch(model, 1)
        assert sum(node.op_type == "Shape" for node in model.graph) == count


def test_queries(mixed: Mixed) -> None:
    model = load(mixed("c = Conv(x, w) y = Conv(c, v)", "y"))
    assert [node.name for node in weighted_nodes(model)] == ["make_c"]
    assert not weighted_after(node_of(model, "c"))
    turned = "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv(t, w)"
    assert is_channels_last(load(mixed(turned)))
    assert not is_channels_last(load(mixed(turned, "t")))
    assert tensors_of_known_range(load(mixed("y = Transpose(x)"))) == {"x", "y"}
    assert tensors_of_known_range(load(mixed("y = Transpose(x)", "y"))) == {"x"}
    scaling = ir.node("Conv", [], domain="my.domain")
    scaling.resize_inputs(2)
    assert not is_channel_scale(scaling)


def test_an_infinite_weight_is_refused_where_it_is_one(mixed: Mixed) -> None:
    for foreign in ((), ("y",)):
        model = mixed("y = Conv(x, w)", *foreign)
        model.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.full((4, 4, 3, 3), np.inf, np.float32), "w")
        )
        if foreign:
            assert len(load(model).graph) == 1
        else:
            with pytest.raises(ModelError, match="weight 'w' of Conv 'make_y' holds NaN or infinity"):
                load(model)


def test_ranges_do_not_pass_a_foreign_operator(mixed: Mixed) -> None:
    for foreign, found in (((), {"y"}), (("y",), set())):
        model = load(mixed("y = Flatten(x)", *foreign))
        assert set(derive_ranges(model, {"x": Range(0, 1)}, ["y"])[0]) == found


def test_equalization_does_not_pass_a_foreign_operator(mixed: Mixed) -> None:
    text = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    assert len(pairs_of(load(mixed(text)))) == 1
    for foreign in ("c", "r", "y"):
        assert pairs_of(load(mixed(text, foreign))) == []


def test_moments_do_not_pass_a_foreign_operator(mixed: Mixed) -> None:
    x = {"x": Moments.normal(torch.zeros(4), torch.ones(4), 3.0)}
    assert "y" in propagate(load(mixed("y = Identity(x)")), {}, x, 3.0)
    assert "y" not in propagate(load(mixed("y = Identity(x)", "y")), {}, x, 3.0)


def test_the_twin_names_a_foreign_operator(mixed: Mixed) -> None:
    with pytest.raises(UnsupportedOperators, match=r"1 node\(s\) of this graph: my\.domain::Conv-1 \(make_y\)"):
        Twin.from_model(load(mixed("c = Conv(x, w) y = Conv(c, v)", "y")))


def test_inspect_counts_only_what_it_knows(mixed: Mixed) -> None:
    found = inspect(mixed("c = Conv(x, w) y = Conv(c, v)", "y"))
    assert found.operators == {"Conv": 1, "my.domain::Conv": 1}
    assert found.weighted == 1


def test_the_checker_reads_no_foreign_operator(mixed: Mixed) -> None:
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(whole, s, zs) y = Conv(d, e)"
    view = view_of(mixed(text))
    assert [len(view.quantizations), len(view.kernels), len(view.quantized_nodes)] == [3, 1, 1]
    assert constant_dequantizer(node_of(view.model, "y").inputs[1]) is not None
    foreign = view_of(mixed(text, "q", "d", "e"))
    assert [len(foreign.quantizations), len(foreign.kernels), len(foreign.quantized_nodes)] == [0, 1, 0]
    assert constant_dequantizer(node_of(foreign.model, "y").inputs[1]) is None
    contrib = view_of(mixed(text, "q", "d", "e", domain="com.microsoft"))
    assert [len(contrib.quantizations), len(contrib.kernels), len(contrib.quantized_nodes)] == [3, 1, 1]
    assert not view_of(mixed(text, "y")).kernels
    lacking = [violation for violation in check(mixed(text, "y"), "qnn").violations if violation.rule == "operator"]
    assert [(one.operator, one.found) for one in lacking] == [
        ("my.domain::Conv", f"{TARGETS['qnn'].runtime} has no my.domain::Conv")
    ]


def test_the_exporter_gives_a_foreign_operator_no_integer_bias(mixed: Mixed) -> None:
    encodings = {
        "x": Encoding.of_range(Range(0, 1), QuantType(8, signed=False, symmetric=False)),
        "w": Encoding.of_range(Range(-1, 1), QuantType(8, signed=True, symmetric=True)),
    }
    for foreign, types in (((), {"FLOAT", "INT8", "UINT8", "INT32"}), (("y",), {"FLOAT", "INT8", "UINT8"})):
        written = quantized_model(load(mixed("y = Conv(x, w, b)", *foreign)), encodings)
        kinds = {value.dtype for value in written.graph.initializers.values()}
        assert {kind.name for kind in kinds if kind is not None} == types
