"""Nodes that stay float and tensors with other types and ranges; the expectations are read from the written files."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy import OptionError, Samples, calibrate
from dfq_deploy.encodings import Range
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.quantization.overrides import Override, Overrides
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.targets.catalog import find_target
from tests.conftest import ModelOf, TinyModel

RNG = np.random.default_rng(0)

REASON = "kept in float, as asked"

WEIGHTS = {f"w{index}": RNG.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32) for index in range(3)}

CHAIN = "a = Conv<pads = [1,1,1,1]>(x, w0) b = HardSwish(a) c = Conv<pads = [1,1,1,1]>(b, w1) d = Relu(c) "


@pytest.fixture
def chain(model_of: ModelOf) -> onnx.ModelProto:
    """Conv_0, HardSwish_1, Conv_2, Relu_3, Conv_4, as loading names them."""
    return model_of("float[n,4,8,8] x", "float[n,4,8,8] y", f"{CHAIN} y = Conv<pads = [1,1,1,1]>(d, w2)", WEIGHTS)


@pytest.fixture
def samples() -> Samples:
    return Samples(np.random.default_rng(1).normal(0, 1, (16, 4, 8, 8)).astype(np.float32))


def placed(model: onnx.ModelProto, overrides: Overrides, target: str = "cpu") -> Placement:
    return prepare(load(model), find_target(target), overrides=overrides).placement


def node(match: str, **values: object) -> Overrides:
    return Overrides(entries=(Override("node", match, **values),))  # type: ignore[arg-type]


def tensor(match: str, **values: object) -> Overrides:
    return Overrides(entries=(Override("tensor", match, **values),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (Overrides(keep_float=("Conv_2",)), {"Conv_2"}),
        (Overrides(keep_float=("Conv",)), {"Conv_0", "Conv_2", "Conv_4"}),
        (Overrides(keep_float=("*_4", "Conv_0")), {"Conv_0", "Conv_4"}),
        (Overrides(exclude="_[24]$"), {"Conv_2", "Conv_4"}),
        (node("Conv_2", is_float=True), {"Conv_2"}),
        (tensor("b", is_float=True), {"Conv_2"}),
        (tensor("y", is_float=True), {"Conv_4"}),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_nodes_stay_float(chain: onnx.ModelProto, overrides: Overrides, kept: set[str]) -> None:
    placement = placed(chain, overrides)
    rows = [row for row in placement.left_float if row[1] == "Conv"]
    assert {name for name, _, _ in rows} == kept
    assert {reason for _, _, reason in rows} == {REASON}
    weights = {f"Conv_{2 * index}": f"w{index}" for index in range(3)}
    assert set(placement.weights) == {weight for name, weight in weights.items() if name not in kept}


@pytest.mark.parametrize("target", ["cpu", "tensorrt", "nnapi"])
def test_the_written_file_multiplies_floats_there(
    chain: onnx.ModelProto, samples: Samples, tmp_path: Path, target: str
) -> None:
    result = calibrate(chain, data=samples, target=target, keep_float="Conv_2", output=tmp_path / "out")
    written = onnx.load(result.model_path or "")
    producers = {name: entry.op_type for entry in written.graph.node for name in entry.output}
    by_name = {entry.name: entry for entry in written.graph.node}
    constants = {entry.name: numpy_helper.to_array(entry) for entry in written.graph.initializer}
    np.testing.assert_array_equal(constants[by_name["Conv_2"].input[1]], WEIGHTS["w1"])
    for name in ("Conv_0", "Conv_4"):
        assert producers[by_name[name].input[1]] == "DequantizeLinear"
    assert [(row.name, row.operator, row.reason) for row in result.report.left_float] == [("Conv_2", "Conv", REASON)]


def test_everything_kept_is_the_float_model(chain: onnx.ModelProto, samples: Samples) -> None:
    result = calibrate(chain, data=samples, exclude=".")
    assert result.report.comparison.outputs[0].snr > 100  # the order of the sums may differ


def test_a_batch_normalization_stands_for_its_convolution(tiny: TinyModel) -> None:
    assert [row[:2] for row in placed(tiny(), Overrides(keep_float=("bn",))).left_float] == [("conv", "Conv")]


def test_a_node_that_is_rewritten_stands_for_what_it_becomes(model_of: ModelOf) -> None:
    text = "a = Conv<pads = [1,1,1,1]>(x, w0) m = ReduceMean<axes = [2,3], keepdims = 1>(a) y = Conv(m, v)"
    weights = {"w0": WEIGHTS["w0"], "v": np.ones((2, 4, 1, 1), np.float32)}
    model = model_of("float[n,4,8,8] x", "float[n,2,1,1] y", text, weights)
    assert placed(model, Overrides(keep_float=("Conv_2",))).left_float == (
        ("Conv_2_Gemm", "Gemm", REASON),
        ("Conv_2_Flatten", "Flatten", REASON),
        ("Conv_2_Unsqueeze", "Unsqueeze", REASON),
    )


@pytest.mark.parametrize(
    ("overrides", "target", "said"),
    [
        (Overrides(keep_float=("Conv_3",)), "cpu", r"keep_float: no node 'Conv_3'; did you mean .*Conv_2"),
        (Overrides(keep_float=("hardswish",)), "cpu", r"no node 'hardswish'; did you mean HardSwish"),
        (Overrides(exclude="^head"), "cpu", r"exclude: '\^head' fits no node"),
        (Overrides(keep_float=("Conv_0",)), "qnn", r"Conv_0' cannot stay float; give it 16 bits instead"),
        (tensor("q", bits=4), "cpu", r"overrides: no tensor 'q'"),
        (tensor("a", type="u16"), "cpu", r"'a' cannot be u16: cpu takes activations of s8, u8"),
        (tensor("x", type="u8"), "tensorrt", r"'x' cannot be u8: tensorrt takes activations of s8"),
        (tensor("x", symmetric=False), "tensorrt", r"'x' cannot be asymmetric: tensorrt takes symmetric types"),
        (node("Conv_0", bits=16), "cpu", r"'Conv_0' cannot be s16: cpu takes weights of s8, u8"),
        (tensor("c", bits=4), "cpu", r"'c' is not quantized; quantized are, e.g., x"),
    ],
)
def test_what_cannot_be_is_refused(chain: onnx.ModelProto, overrides: Overrides, target: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        placed(chain, overrides, target)


def test_a_weight_has_no_range_to_give(chain: onnx.ModelProto) -> None:
    entry = Override("tensor", "w0", range=Range(-1, 1))
    with pytest.raises(OptionError, match="'w0' is a weight"):
        placed(chain, Overrides(entries=(entry,)))


def test_types_of_nodes_and_tensors(chain: onnx.ModelProto) -> None:
    entries = (
        Override("node", "Conv_2", type="s8", bits=5),
        Override("tensor", "d", bits=6, symmetric=True),
        Override("tensor", "w2", bits=3),
    )
    placement = placed(chain, Overrides(entries=entries))
    assert {name: str(qtype) for name, qtype in placement.activations.items()} == {
        "x": "u8", "a": "u8", "b": "s8", "d": "u6", "y": "u8",
    }  # fmt: skip
    assert placement.activations["d"].symmetric
    assert {name: str(qtype) for name, (qtype, _) in placement.weights.items()} == {"w0": "s8", "w1": "s5", "w2": "s3"}


def test_a_group_of_one_encoding_has_one_type_and_one_range(model_of: ModelOf, samples: Samples) -> None:
    text = "a = Conv<pads = [1,1,1,1]>(x, w0) p = MaxPool<kernel_shape = [2,2]>(a) y = Conv(p, w1)"
    model = model_of("float[n,4,8,8] x", "float[n,4,5,5] y", text, WEIGHTS)
    entry = Override("tensor", "p", type="s8", range=Range(-5, 7))
    prepared = prepare(load(model), find_target("cpu"), overrides=Overrides(entries=(entry,)))
    assert {name: str(prepared.placement.activations[name]) for name in ("a", "p")} == {"a": "s8", "p": "s8"}


def test_ranges_are_those_of_the_file(chain: onnx.ModelProto, samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text(
        '[[tensor]]\nmatch = "[ab]"\nrange = [-2, 3]\n[[tensor]]\nmatch = "d"\nrange = [-1, 2]\n'
    )
    report = calibrate(chain, data=samples, overrides=tmp_path / "o.toml").report
    rows = {row.name: row for row in report.tensors}
    for name in ("a", "b"):
        assert rows[name].high - rows[name].low == pytest.approx(5, abs=1e-5)
        assert rows[name].high == pytest.approx(3, abs=5 / 255)
    assert (rows["d"].low, rows["d"].high) == pytest.approx((0, 2), abs=1e-6)  # a Relu leaves nothing below zero


def test_the_example_of_the_docs_runs(tiny: TinyModel, checkout: Path, tmp_path: Path) -> None:
    block = re.search(r"^```toml\n(.*?)^```$", (checkout / "docs/overrides.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "overrides.toml").write_text(block[1])
    result = calibrate(tiny(), synth="noise", count=16, overrides=tmp_path / "overrides.toml")
    assert [(row.name, row.reason) for row in result.report.left_float] == [("fc", REASON)]
    rows = {row.name: row for row in result.report.tensors}
    assert (rows["conv.weight"].type, "fc.weight" in rows) == ("s6", False)
    assert (rows["image"].low, rows["image"].high) == pytest.approx((-1, 1), abs=2 / 255)
