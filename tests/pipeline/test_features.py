"""Networks on tables: what the graph standardizes, and what nobody knows."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import Samples, calibrate, evaluate
from tests.conftest import ModelOf

MEAN = np.array([1000.0, 0.02, -5.0, 40.0], np.float32)
STD = np.array([300.0, 0.003, 0.5, 9.0], np.float32)


@pytest.fixture
def rows() -> Samples:
    """Rows in units of their own."""
    drawn = np.random.default_rng(1).normal(0, 1, (128, 4)).astype(np.float32)
    return Samples(drawn * STD + MEAN)


def network(model_of: ModelOf, folder: Path, *, standardized: bool) -> Path:
    """Two layers, behind a mean and a deviation or on rows as they are."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (4, 16)).astype(np.float32)
    numbers = {"v": first if standardized else first / STD[:, None], "w": rng.normal(0, 1, (16, 3)).astype(np.float32)}
    numbers |= {"m": MEAN, "s": STD} if standardized else {"b": -(MEAN / STD) @ first}
    head = "c = Sub(x, m) d = Div(c, s) h = MatMul(d, v)" if standardized else "a = MatMul(x, v) h = Add(a, b)"
    text = f"{head} r = Relu(h) y = MatMul(r, w)"
    onnx.save(model_of("float[n,4] x", "float[n,3] y", text, numbers), folder / "net.onnx")
    return folder / "net.onnx"


def test_what_the_graph_standardizes_is_drawn_as_it_is(model_of: ModelOf, tmp_path: Path, rows: Samples) -> None:
    """Real rows were clipped to the ranges of rows of mean 0 and deviation 1, and the verdict was OK."""
    path = network(model_of, tmp_path, standardized=True)
    calibrate(path, output=tmp_path / "out")
    quantized = tmp_path / "out" / "model.qdq.onnx"
    drawn, real = evaluate(path, quantized), evaluate(path, quantized, rows)
    assert drawn.verdict.status != "BAD"
    assert not [finding for finding in drawn.verdict.findings if finding.code in ("scale-fault", "inputs-guessed")]
    assert drawn.data == "256 procedural inputs (seed 0), no real data"
    assert real.comparison.outputs[0].snr > 25


def test_a_file_made_from_real_rows_is_not_blamed_on_drawn_ones(
    model_of: ModelOf, tmp_path: Path, rows: Samples
) -> None:
    path = network(model_of, tmp_path, standardized=False)
    calibrate(path, data=rows, output=tmp_path / "out")
    verdict = evaluate(path, tmp_path / "out" / "model.qdq.onnx", count=64).verdict
    assert "inputs-guessed" in {finding.code for finding in verdict.findings}
    assert "scale-fault" not in {finding.code for finding in verdict.findings}
    assert verdict.status == "CHECK"
    assert verdict.command.endswith("--data FILE.npz")
