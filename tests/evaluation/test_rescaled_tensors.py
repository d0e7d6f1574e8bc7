"""Channels that a file multiplies, in layers in float and by a Mul, are no faults of its weights."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy import Samples, calibrate
from dfq_deploy.evaluation.file_checks import FileChecks, file_checks
from dfq_deploy.evaluation.rescaled_tensors import channel_scale, rescaled_tensors
from dfq_deploy.graph.loading import load, load_quantized
from tests.conftest import ModelOf

BODY = """
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    d = Conv<pads=[1,1,1,1], group=16>(r, w2, b2)
    s = Sigmoid(d)
    h = Mul(d, s)
    e = Conv(h, w3, b3)
    t = Relu(e)
    y = Conv(t, w4, b4)
"""


def _weights() -> dict[str, NDArray[np.float32]]:
    """Channels that differ by 30 times, some of which are dead; the last layer has two outputs."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(0.2, 6, 16)[rng.permutation(16)][:, None, None, None]
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1), "w4": (2, 16, 1, 1)}
    made = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    made["w1"] *= spread
    made["w2"] *= spread[rng.permutation(16)]
    made["w3"] *= spread
    made["w3"][::3] = 1e-20
    made |= {f"b{index}": rng.normal(0, 0.3, len(made[f"w{index}"])) for index in range(1, 5)}
    return {name: values.astype(np.float32) for name, values in made.items()}


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples(np.random.default_rng(1).normal(0, 1, (32, 3, 12, 12)).astype(np.float32))


@pytest.fixture
def path(model_of: ModelOf, tmp_path: Path) -> Path:
    model = model_of("float[n,3,12,12] x", "float[n,2,12,12] y", BODY, _weights())
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
    onnx.save(model, tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


def _checked(path: Path, quantized: Path | onnx.ModelProto, samples: Samples) -> FileChecks:
    return file_checks(load(path), load_quantized(quantized), samples.part(slice(8)), 20.0)


@pytest.mark.parametrize("kept", [(), ("w1",), ("w2",), ("w3",)])
@pytest.mark.parametrize("refine", [("channels", "bias"), ("equalize", "channels", "bias")])
def test_a_sound_file_has_no_fault(
    path: Path, samples: Samples, tmp_path: Path, kept: tuple[str, ...], refine: tuple[str, ...]
) -> None:
    nodes = [node.name for node in onnx.load(path).graph.node if set(node.input) & set(kept)]
    calibrate(path, data=samples, refine=refine, keep_float=nodes, floor="none", output=tmp_path / "out")
    assert _checked(path, tmp_path / "out/model.qdq.onnx", samples).sentences == ()


def test_a_planted_scale_is_named_first(path: Path, samples: Samples, tmp_path: Path) -> None:
    calibrate(path, data=samples, refine=["channels", "bias"], floor="none", output=tmp_path / "out")
    wrong = onnx.load(tmp_path / "out/model.qdq.onnx")
    scale = next(entry for entry in wrong.graph.initializer if entry.name == "w4_scale")
    scale.CopyFrom(numpy_helper.from_array(8 * numpy_helper.to_array(scale), scale.name))
    assert (
        _checked(path, wrong, samples).sentences[0].startswith("the scale of weight 'w4_quantized' of Conv 'conv_7' ")
    )


def test_factors_of_a_mul(model_of: ModelOf) -> None:
    factors = np.array([0.5, 1, 2, 1], np.float32).reshape(1, 4, 1, 1)
    kinds = "float[n,4,8,8] x", "float[n,4,8,8] y"
    plain = load(model_of(*kinds, "a = Relu(x)\ny = Sigmoid(a)", {}))
    scaled = load(model_of(*kinds, "r = Relu(x)\na = Mul(r, s)\ny = Sigmoid(a)", {"s": factors}))
    changed = load(model_of(*kinds, "r = Relu(x)\na = Mul(r, s)\ny = Sigmoid(a)", {"s": 3 * factors}))
    assert {name: list(found) for name, found in rescaled_tensors(plain, scaled).items()} == {"a": [0.5, 1, 2, 1]}
    assert {name: list(found) for name, found in rescaled_tensors(scaled, changed).items()} == {"a": [3, 3, 3, 3]}
    assert rescaled_tensors(scaled, scaled) == {}
    assert [channel_scale(node) is not None for node in scaled.graph] == [False, True, False]


@pytest.mark.parametrize(("first", "second"), [(4, 3), (3, 4), (8, 4), (4, 8)])
def test_equalized_layers_of_few_channels(
    model_of: ModelOf, samples: Samples, tmp_path: Path, first: int, second: int
) -> None:
    body = "a = Conv<pads=[1,1,1,1]>(x, w1, b1)\nr = Relu(a)\nc = Conv(r, w2, b2)\ns = Relu(c)\ny = Conv(s, w3, b3)"
    shapes = {"w1": (first, 3, 3, 3), "w2": (second, first, 3, 3), "w3": (second, second, 1, 1)}
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {f"b{name[1]}": rng.normal(0, 0.3, shape[0]).astype(np.float32) for name, shape in shapes.items()}
    onnx.save(model_of("float[n,3,12,12] x", f"float[n,{second},10,10] y", body, weights), tmp_path / "few.onnx")
    calibrate(tmp_path / "few.onnx", data=samples, refine=["equalize", "bias"], floor="none", output=tmp_path / "out")
    assert _checked(tmp_path / "few.onnx", tmp_path / "out/model.qdq.onnx", samples).sentences == ()
