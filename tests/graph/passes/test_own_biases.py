"""Every layer gets a bias of its own, and the model computes what it did."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.own_biases import give_own_biases

Model = Callable[..., onnx.ModelProto]


def test_a_shared_bias_is_copied_and_a_missing_one_is_zero(model_of: Model) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(3, 3)).astype(np.float32) for name in ("v", "w", "u")}
    body = "a = Gemm<transB=1>(x, v, b)\n d = Gemm<transB=1>(a, w, b)\n y = Gemm(d, u)"
    source = model_of("float[n,3] x", "float[n,3] y", body, {**weights, "b": np.ones(3, np.float32)})
    model = load(source)
    found = give_own_biases(model)
    assert set(found) == {"a", "d", "y"}
    names = [str(node.inputs[2].name) for node in found.values() if node.inputs[2] is not None]
    assert len(set(names)) == 3
    given = rng.normal(size=(4, 3)).astype(np.float32)

    def run(proto: onnx.ModelProto) -> np.ndarray:
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        result: np.ndarray = session.run(None, {"x": given})[0]
        return result

    np.testing.assert_allclose(run(ir.to_proto(model)), run(source), rtol=1e-6)
