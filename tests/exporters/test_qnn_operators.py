"""What is placed for ``qnn`` runs whole on the simulator of the NPU, operator by operator, where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.qnn import Qnn
from numpy.typing import NDArray

from dfq_deploy import Samples, calibrate, export
from dfq_deploy.checking import check

ModelOf = Callable[..., onnx.ModelProto]

SHAPES = {
    **{"w": (4, 3, 3, 3), "t": (4, 3, 3, 3), "g": (144, 5), "b": (5,), "h": (6, 5)},
    **{"ls": (6,), "lb": (6,), "grid": (1, 4, 4, 2)},
}

NUMBERS = {"zero": 0.0, "three": 3.0, "six": 6.0}

CASES = {
    "hard-swish-in-parts": "c = Conv(x, w) a = Add(c, three) r = Clip(a, zero, six) k = Mul(c, r) y = Div(k, six)",
    "classifier": "c = Conv(x, w) r = Relu(c) f = Flatten(r) l = Gemm(f, g, b) y = Softmax(l)",
    "product": "c = Conv(x, w) y = MatMul(c, h)",
    "transposed": "c = Conv(x, w) y = ConvTranspose(c, t)",
    "residual": "c = Conv(x, w) r = Relu(c) d = Sigmoid(c) a = Add(r, d) e = Relu(a) y = Concat <axis = 1> (e, c)",
    "normalized": "c = Conv(x, w) y = LayerNormalization(c, ls, lb)",
    "sampled": "c = Conv(x, w) y = GridSample(c, grid)",
    # Since version 2.4 and 2.7 of onnxruntime-qnn.
    "pooled-by-norm": "c = Conv(x, w) y = LpPool <kernel_shape = [2, 2], p = 2> (c)",
    "swish": "c = Conv(x, w) y = Swish(c)",
}

OPSETS = {"swish": 24}


@pytest.mark.parametrize("case", CASES)
def test_it_runs_whole_on_the_npu(case: str, model_of: ModelOf, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="the package onnxruntime-qnn is not installed")
    from dfq_deploy.exporters.qnn import open_session

    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    arrays |= {name: np.array(number, np.float32) for name, number in NUMBERS.items()}
    nodes = CASES[case]
    words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
    used = {name: array for name, array in arrays.items() if name in words}
    model = model_of("float[n,3,8,8] x", "float y", nodes, used, opset=OPSETS.get(case, 17))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model)
    samples = Samples(random.normal(size=(16, 3, 8, 8)).astype(np.float32))
    result = calibrate(model, data=samples, target="qnn", method="minmax", refine=(), output=tmp_path / "out")
    assert result.model_path is not None
    assert check(result.model_path, "qnn").clean
    assert result.model_path.with_name("model_ctx.onnx").is_file()
    feed = {"x": samples.images[:1]}
    (ours,) = open_session(result.model_path).run(None, feed)
    (theirs,) = ort.InferenceSession(str(result.model_path), providers=["CPUExecutionProvider"]).run(None, feed)
    # Within a few of the 255 steps of the output.
    assert np.abs(ours - theirs).max() <= 0.04 * (theirs.max() - theirs.min())


def test_an_operator_of_newer_chips_is_compiled_for_one(model_of: ModelOf, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="the package onnxruntime-qnn is not installed")
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    model = model_of("float[n,3,8,8] x", "float[n,4,6,6] y", "c = Conv(x, w) y = Selu(c)", weights)
    samples = Samples(np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    result = calibrate(model, data=samples, target="qnn", method="minmax", refine=(), output=tmp_path / "out")
    assert result.model_path is not None
    report = check(result.model_path, "qnn")
    assert report.clean
    assert [entry.rule for entry in report.advice] == ["newer-chip"]
    advice = "Selu: compile for a newer chip, e.g. --option soc_model=60"
    assert any(advice in note for note in result.report["warnings"])
    written = export(result.model_path, to=Qnn(soc_model="60"), output=tmp_path / "new.qdq.onnx")
    assert [file.name for file in written.files] == ["new.qdq.onnx", "new_ctx.onnx"]
