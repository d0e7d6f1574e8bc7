"""Heads that one scale would break: boxes of hundreds of pixels beside scores of 0 to 1."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.quantization.overrides import Overrides
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


ONE_CONV = normal(6, 8, 1, 1, seed=2) * np.array([300, 300, 300, 300, 1, 1], np.float32).reshape(6, 1, 1, 1)
BACKBONE = "c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) "


def columns(model: onnx.ModelProto, tmp_path: Path) -> tuple[NDArray[np.float64], list[str], onnx.ModelProto]:
    """SNR in dB of each of the six columns of the first output, the warnings, and the quantized model."""
    samples = Samples(normal(16, 3, 8, 8, seed=9))
    found = calibrate(model, data=samples, output=tmp_path / "out")
    assert found.model_path is not None
    expected, given = (
        ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": samples.images})[0]
        for content in (model.SerializeToString(), found.model_path)
    )
    error = np.square(expected - given).sum(axis=(0, 2, 3))
    levels = 10 * np.log10(np.square(expected).sum(axis=(0, 2, 3)) / error)
    return levels, list(found.report["warnings"]), onnx.load(found.model_path)


@pytest.mark.parametrize(
    "head",
    [
        "y = Conv(r, one)",
        "b = Conv(r, boxes) s = Conv(r, scores) y = Concat <axis = 1> (b, s)",
        "b = Conv(r, boxes) s = Conv(r, scores) k = Concat <axis = 1> (b, s) "
        "p, q = Split <axis = 1> (k, sizes) d = Conv(p, four) e = Conv(q, two) y = Concat <axis = 1> (d, e)",
    ],
    ids=["one-convolution", "joined-at-the-end", "joined-and-split"],
)
def test_scores_survive_beside_boxes(model_of: ModelOf, tmp_path: Path, head: str) -> None:
    weights: dict[str, NDArray[np.generic]] = {"w": normal(8, 3, 3, 3), "one": ONE_CONV, "sizes": np.array([4, 2])}
    weights |= {"boxes": ONE_CONV[:4], "scores": ONE_CONV[4:], "four": normal(4, 4, 1, 1), "two": normal(2, 2, 1, 1)}
    words = set(head.replace(",", " ").replace("(", " ").replace(")", " ").split()) | {"w"}
    model = model_of(
        "float[n,3,8,8] x", "float[n,6,8,8] y", BACKBONE + head, {k: v for k, v in weights.items() if k in words}
    )
    levels, warnings, _ = columns(model, tmp_path)
    assert levels.min() > 20
    if "Split" in head:
        assert any(w.startswith("Concat 'Concat_4' joins values up to") and "stays float" in w for w in warnings)
    elif "one" in head:
        assert any(w.startswith("the channels of the last convolution 'Conv_2' reach from") for w in warnings)


def test_parts_of_like_size_share_a_scale(model_of: ModelOf, tmp_path: Path) -> None:
    weights = {"w": normal(8, 3, 3, 3), "a": normal(4, 8, 1, 1), "b": normal(2, 8, 1, 1, seed=3)}
    text = BACKBONE + "d = Conv(r, a) e = Conv(r, b) k = Concat <axis = 1> (d, e) y = Conv(k, last)"
    model = model_of("float[n,3,8,8] x", "float[n,6,8,8] y", text, weights | {"last": normal(6, 6, 1, 1, seed=4)})
    levels, warnings, quantized = columns(model, tmp_path)
    assert warnings == []
    assert levels.min() > 20
    shared = {node.input[1] for node in quantized.graph.node if node.op_type == "QuantizeLinear"}
    values = {t.name: onnx.numpy_helper.to_array(t).item() for t in quantized.graph.initializer if t.name in shared}
    assert len({values[name] for name in shared if name.split("_")[0] in ("d", "e", "k")}) == 1


def test_why_a_layer_is_kept_is_not_forgotten_where_a_head_is_parted(model_of: ModelOf) -> None:
    model = load(
        model_of(
            "float[n,3,8,8] x",
            "float[n,6,8,8] y",
            f"{BACKBONE}y = Conv(r, one)",
            {"w": normal(8, 3, 3, 3), "one": ONE_CONV},
        )
    )
    overrides = Overrides(keep_float=("Conv_0",), reasons=(("Conv_0", "it is noisy"),))
    prepared = prepare(model, find_target("cpu"), overrides=overrides)
    quantized = encode(prepared, find_plugin("calibrators", "minmax")(), Samples(normal(16, 3, 8, 8, seed=9)))
    assert "it writes float" in quantized.warnings[0]
    assert quantized.prepared.placement.left_float == (("Conv_0", "Conv", "it is noisy"),)
