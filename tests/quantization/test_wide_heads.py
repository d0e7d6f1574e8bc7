"""Detectors for a target that computes everything in integers: 16 bits behind the last layers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy import Samples, calibrate, check, find_target
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.encode import prepare

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


WEIGHTS: dict[str, NDArray[np.generic]] = {
    "w": normal(16, 3, 3, 3),
    "wd": normal(32, 16, 1, 1, seed=1),
    "ws": normal(5, 16, 1, 1, seed=2),
    "bins": np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1),
    "to_bins": np.array([1, 4, 8, 64]),
    "to_boxes": np.array([1, 4, 64]),
    "to_scores": np.array([1, 5, 64]),
    "grid": np.linspace(0, 80, 256, dtype=np.float32).reshape(1, 4, 64),
    "stride": np.array(8, np.float32),
}
HEAD = """c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) d = Conv(r, wd) d1 = Reshape(d, to_bins)
 d2 = Transpose<perm=[0,2,1,3]>(d1) d3 = Softmax<axis=1>(d2) d4 = Conv(d3, bins) b = Reshape(d4, to_boxes)
 b1 = Add(b, grid) b2 = Mul(b1, stride) s = Conv(r, ws) s1 = Reshape(s, to_scores) s2 = Sigmoid(s1)
 y = Concat<axis=1>(b2, s2)"""
SEPARATE = """c = Conv<pads=[1,1,1,1]>(x, w) d = Conv(c, wb) d1 = Reshape(d, to_boxes)
 boxes = Transpose<perm=[0,2,1]>(d1) s = Conv(c, ws) s1 = Sigmoid(s) s2 = Reshape(s1, to_scores)
 scores = Transpose<perm=[0,2,1]>(s2)"""


@pytest.fixture(scope="module")
def detector(model_of: ModelOf) -> onnx.ModelProto:
    return model_of("float[1,3,8,8] x", "float[1,9,64] y", HEAD, WEIGHTS)


def test_scores_survive_in_the_same_output_as_pixels(detector: onnx.ModelProto, tmp_path: Path) -> None:
    result = calibrate(detector, data=Samples(normal(16, 3, 8, 8, seed=9)), target="qnn", output=tmp_path / "out")
    head = result.report["comparison"]["detector"]
    assert head["boxes_snr_db"] > 35
    assert head["scores_snr_db"] > 20
    assert result.model_path is not None
    assert check(result.model_path, "qnn").errors == ()
    types = {name: str(encoding.qtype) for name, encoding in result.encodings.items()}
    assert {name for name, kind in types.items() if kind == "u16"} == {
        *("d_wide", "s_wide", "d1", "d2", "d3", "d4", "b", "b1", "b2", "s1", "s2", "y", "grid", "stride")
    }
    assert types["d"] == types["s"] == types["r"] == "u8"
    nodes = onnx.load(result.model_path).graph.node
    assert not [node for node in nodes if node.op_type == "Identity"]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_projection_stays_float_elsewhere(detector: onnx.ModelProto, target: str) -> None:
    placement = prepare(load(detector), find_target(target)).placement
    assert [reason for _, operator, reason in placement.left_float if operator == "Conv"] == [
        "it computes the distance of a box's side from a distribution, which 8 bits would round to pixels"
    ]
    assert "bins" not in placement.weights
    assert {qtype.bits for qtype in placement.activations.values()} == {8}


def test_outputs_of_their_own_stay_at_8_bits(model_of: ModelOf) -> None:
    weights = {name: WEIGHTS[name] for name in ("w", "ws", "to_boxes", "to_scores")} | {"wb": normal(4, 16, 1, 1)}
    model = load(model_of("float[1,3,8,8] x", "float[1,64,4] boxes, float[1,64,5] scores", SEPARATE, weights))
    assert {kind.bits for kind in prepare(model, find_target("qnn")).placement.activations.values()} == {8}
