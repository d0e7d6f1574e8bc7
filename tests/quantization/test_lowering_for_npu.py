"""What is rewritten for a target that runs the whole graph in integers, and that its files keep its rules."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy import Samples, calibrate, check

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


NORM: dict[str, NDArray[np.generic]] = {
    "g": 1 + normal(4, seed=1) ** 2,
    "b": normal(4, seed=2),
    "m": normal(4, seed=3),
    "v": 0.5 + normal(4, seed=4) ** 2,
}


@pytest.mark.parametrize(
    ("shapes", "nodes", "weights"),
    [
        (
            ("float[n,6] x", "float[n,3] y"),
            "h = Gemm(x, w) r = Relu(h) n = BatchNormalization(r, g, b, m, v) y = Gemm(n, u)",
            {"w": normal(6, 4), "u": normal(4, 3), **NORM},
        ),
        (
            ("float[n,6,8] x", "float[n,3,8] y"),
            "h = Conv(x, w) r = Relu(h) n = BatchNormalization(r, g, b, m, v) y = Conv(n, u)",
            {"w": normal(4, 6, 1), "u": normal(3, 4, 1), **NORM},
        ),
        (
            ("float[n,6,8,8] x", "float[n,4,8,8] y"),
            "p = GlobalAveragePool(x) q = Conv(p, w) s = Squeeze(q, axes) t = ReduceMean<axes=[0],keepdims=0>(s) "
            "y = Conv(x, w, t)",
            {"w": normal(4, 6, 1, 1), "axes": np.array([2, 3])},
        ),
        (
            ("float[n,6] x", "float[n,3] y"),
            "h = Gemm(x, w) a = Div(h, root) e = Erf(a) s = Add(e, one) p = Mul(h, s) q = Mul(p, half) y = Gemm(q, u)",
            {
                "w": normal(6, 4),
                "u": normal(4, 3),
                "root": np.array(np.sqrt(2), np.float32),
                "one": np.array(1, np.float32),
                "half": np.array(0.5, np.float32),
            },
        ),
    ],
    ids=["norm-of-rank-2", "norm-of-rank-3", "computed-bias", "erf-gelu"],
)
def test_qnn_keeps_its_rules(
    model_of: ModelOf, tmp_path: Path, shapes: tuple[str, str], nodes: str, weights: dict[str, NDArray[np.generic]]
) -> None:
    model = model_of(*shapes, nodes, weights)
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    result = calibrate(model, data=Samples(normal(16, *dims, seed=9)), target="qnn", output=tmp_path / "out")
    assert result.model_path is not None
    assert check(result.model_path, "qnn").errors == ()
    assert result.report["comparison"]["outputs"][0]["snr_db"] > 20


def test_a_file_that_breaks_its_rules_is_bad(model_of: ModelOf, tmp_path: Path) -> None:
    text = "h = Gemm(x, w) q = Reshape(h, square) d = Det(q) y = Unsqueeze(d, axis)"
    weights = {"w": normal(6, 4), "square": np.array([0, 2, 2]), "axis": np.array([1])}
    model = model_of("float[n,6] x", "float[n,1] y", text, weights)
    result = calibrate(model, data=Samples(normal(16, 6, seed=9)), target="qnn", output=tmp_path / "out")
    verdict = result.report["verdict"]
    assert verdict["status"] == "BAD"
    assert verdict["reason"].startswith("the file breaks the rules of 'qnn': Det ")
    assert verdict["command"] == f"dfq-deploy check {result.model_path} --target qnn"
