"""Sessions on models whose weights are handed over, against ONNX Runtime on the whole message."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dfq_deploy.graph import large_models
from dfq_deploy.graph.large_models import LARGEST_MESSAGE, in_memory
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import Session, expose_tensors
from dfq_deploy.samples.samples import Samples

Model = Callable[..., onnx.ModelProto]

NODES = (
    "c = Conv <pads = [1,1,1,1]> (x, w) n = BatchNormalization(c, s, o, o, s) r = Relu(n) p = GlobalAveragePool(r) "
    "t = Transpose <perm = [0, 2, 3, 1]> (p) m = Mul(t, k) u = Transpose <perm = [0, 3, 1, 2]> (m) "
    "f = Flatten(u) h = MatMul(f, g) y = Gemm <transB = 1> (h, v)"
)
"""Fused, pushed through transposes and packed: what ONNX Runtime does to weights when it optimizes."""

IMAGES = np.random.default_rng(3).normal(0, 1, (5, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def proto(model_of: Model) -> onnx.ModelProto:
    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.random.default_rng(len(shape)).normal(0, 0.5, shape).astype(np.float32)

    weights = {"w": normal(384, 3, 3, 3), "s": 1 + normal(384) ** 2, "o": normal(384) ** 2, "k": normal(1, 1, 1, 384)}
    weights |= {"g": normal(384, 40), "v": normal(30, 40)}
    return model_of("float[n,3,8,8] x", "float[n,30] y", NODES, weights)


def options() -> ort.SessionOptions:
    found = ort.SessionOptions()
    found.intra_op_num_threads = 1
    return found


@pytest.mark.parametrize("limit", [LARGEST_MESSAGE, 1000])
def test_the_same_numbers_to_the_last_bit(proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    providers = ["CPUExecutionProvider"]
    expected = ort.InferenceSession(proto.SerializeToString(), options(), providers=providers).run(None, {"x": IMAGES})
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", limit)
    (found,) = Session(ir.from_proto(proto), options(), providers).run(None, {"x": IMAGES})
    np.testing.assert_array_equal(found, expected[0])


def test_mapped_weights_are_handed_over(
    proto: onnx.ModelProto, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = Runner(proto.SerializeToString()).run(Samples(IMAGES))
    path = f"{tmp_path}/net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", 1000)
    (found,) = Runner(in_memory(ir.load(path))).run(Samples(IMAGES))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("limit", [LARGEST_MESSAGE, 1000])
def test_tensors_inside_and_inputs_are_shown(
    proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(large_models, "LARGEST_MESSAGE", limit)
    model = ir.from_proto(proto)
    before = ir.to_proto(model)
    runner = Runner(expose_tensors(model, ["r", "x", "y"]))
    assert runner.output_names == ("r", "x_shown", "y")
    features, images, scores = (np.asarray(array) for array in runner.run(Samples(IMAGES)))
    assert features.shape == (5, 384, 8, 8)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_allclose(scores, Runner(proto.SerializeToString()).run(Samples(IMAGES))[0], rtol=1e-4, atol=1e-5)
    assert ir.to_proto(model) == before


def test_what_is_not_shown_is_left_out(proto: onnx.ModelProto) -> None:
    model = ir.from_proto(proto)
    first = model.graph[0].outputs[0]
    shown = expose_tensors(model, [str(first.name)])
    assert [node.name for node in shown.graph] == [model.graph[0].name]
    assert set(shown.graph.initializers) < set(model.graph.initializers)
