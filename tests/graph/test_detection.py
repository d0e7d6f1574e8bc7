"""The parts of detectors' outputs: boxes and scores, told by the graph."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.detection import head_parts
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.task import state_task

ModelOf = Callable[..., onnx.ModelProto]

Part = tuple[str, int, int, int, str, bool, bool]


def normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)


WEIGHTS: dict[str, NDArray[np.generic]] = {
    "wb": normal(4, 3, 1, 1),
    "ws": normal(7, 3, 1, 1),
    "wo": normal(1, 3, 1, 1),
    "wa": normal(12, 3, 1, 1),
    "wd": normal(32, 3, 1, 1),
    "flat4": np.array([1, 4, 64]),
    "flat7": np.array([1, 7, 64]),
    "flat12": np.array([1, 12, 64]),
    "flat32": np.array([1, 32, 64]),
    "stride": np.array(8, np.float32),
    "zero": np.array([0]),
    "four": np.array([4]),
    "last": np.array([12]),
    "one": np.array([1]),
}

YOLOV8 = """b = Conv(x, wb) b1 = Reshape(b, flat4) b2 = Mul(b1, stride) s = Conv(x, ws) s1 = Reshape(s, flat7)
 s2 = Sigmoid(s1) y = Concat<axis=1>(b2, s2)"""
YOLOV5 = """a = Conv(x, wa) a1 = Reshape(a, flat12) a2 = Sigmoid(a1) a3 = Transpose<perm=[0,2,1]>(a2)
 b = Slice(a3, zero, four, two) b1 = Mul(b, stride) s = Slice(a3, four, last, two) y = Concat<axis=2>(b1, s)"""
YOLOX = """b = Conv(x, wb) o = Conv(x, wo) s = Conv(x, ws) o1 = Sigmoid(o) s1 = Sigmoid(s)
 a = Concat<axis=1>(b, o1, s1) a1 = Reshape(a, flat12) y = Transpose<perm=[0,2,1]>(a1)"""
DECODED_YOLOX = (
    YOLOX.replace(" y = ", " t = ")
    + """ p = Slice(t, zero, four, two) p1 = Mul(p, stride) r = Slice(t, four, last, two) y = Concat<axis=2>(p1, r)"""
)
SSD = """b = Conv(x, wb) b1 = Reshape(b, flat4) boxes = Transpose<perm=[0,2,1]>(b1)
 s = Conv(x, ws) s1 = Reshape(s, flat7) s2 = Transpose<perm=[0,2,1]>(s1) scores = Softmax<axis=2>(s2)"""
GFL = """s = Conv(x, ws) s1 = Sigmoid(s) s2 = Reshape(s1, flat7) y = Transpose<perm=[0,2,1]>(s2)
 d = Conv(x, wd) d1 = Reshape(d, flat32) z = Transpose<perm=[0,2,1]>(d1)"""


@pytest.mark.parametrize(
    ("outputs", "nodes", "expected"),
    [
        (
            "float[1,11,64] y",
            YOLOV8,
            [("y", 1, 0, 4, "boxes", False, False), ("y", 1, 4, 11, "scores", False, False)],
        ),
        (
            "float[1,64,12] y",
            YOLOV5,
            [("y", 2, 0, 4, "boxes", False, False), ("y", 2, 4, 12, "scores", False, True)],
        ),
        (
            "float[1,64,12] y",
            YOLOX,
            [("y", 2, 0, 4, "boxes", True, False), ("y", 2, 4, 12, "scores", False, True)],
        ),
        (
            "float[1,64,12] y",
            DECODED_YOLOX,
            [("y", 2, 0, 4, "boxes", False, False), ("y", 2, 4, 12, "scores", False, True)],
        ),
        (
            "float[1,64,7] scores, float[1,64,4] boxes",
            SSD,
            [("scores", 2, 0, 7, "scores", False, False), ("boxes", 2, 0, 4, "boxes", True, False)],
        ),
        (
            "float[1,64,7] y, float[1,64,32] z",
            GFL,
            [("y", 2, 0, 7, "scores", False, False), ("z", 2, 0, 32, "boxes", True, False)],
        ),
    ],
    ids=["yolov8", "yolov5", "yolox", "yolox-decoded", "ssd", "gfl"],
)
def test_parts_of_heads(model_of: ModelOf, outputs: str, nodes: str, expected: list[Part]) -> None:
    model = load(model_of("float[1,3,8,8] x", outputs, nodes, {**WEIGHTS, "two": np.array([2])}))
    found = [(p.output, p.axis, p.start, p.stop, p.role, p.raw, p.objectness) for p in head_parts(model)]
    assert found == expected
    state_task(model, "regress")
    assert head_parts(model) == ()


@pytest.mark.parametrize(
    ("outputs", "nodes"),
    [
        ("float[1,7,64] y", "s = Conv(x, ws) s1 = Reshape(s, flat7) y = Sigmoid(s1)"),
        ("float[1,8,8,8] y", "s = Conv(x, ws) o = Conv(x, wo) y = Concat<axis=1>(s, o)"),
        ("float[1,7,64] y, float[1,4,8,8] z", "s = Conv(x, ws) s1 = Reshape(s, flat7) y = Sigmoid(s1) z = Conv(x, wb)"),
    ],
    ids=["one-output", "no-scores", "other-rows"],
)
def test_other_models_have_no_head(model_of: ModelOf, outputs: str, nodes: str) -> None:
    assert head_parts(load(model_of("float[1,3,8,8] x", outputs, nodes, WEIGHTS))) == ()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("sides", ["32,64", "h,w"])
def test_a_picture_with_a_mask_is_no_head(model_of: ModelOf, stride: int, last: bool, sides: str) -> None:
    """The same columns at half the size are a detector's."""
    convs = f"b = Conv <strides=[{stride},{stride}]> (x, wb) o = Conv <strides=[{stride},{stride}]> (x, wo)"
    move = "Transpose<perm=[0,2,3,1]>" if last else "Identity"
    nodes = f"{convs} a = Sigmoid(o) j = Concat<axis=1>(b, a) y = {move}(j)"
    given = sides if stride == 1 else {"32,64": "16,32", "h,w": "p,q"}[sides]
    output = f"float[1,{given},5] y" if last else f"float[1,5,{given}] y"
    found = head_parts(load(model_of(f"float[1,3,{sides}] x", output, nodes, WEIGHTS)))
    assert [part.role for part in found] == ([] if stride == 1 else ["boxes", "scores"])
