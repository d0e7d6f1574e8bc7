"""What depends on constants alone is computed when a model is loaded."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.passes.fold_constants import fold_constants
from dfq_deploy.graph.writing import to_bytes
from examples.digits.network import DigitNet
from tests.conftest import ModelOf


def test_a_cast_like_something_known_is_a_constant(model_of: ModelOf) -> None:
    proto = model_of(
        "float[n,3] x", "float[n,3] y", "z = CastLike(zero, x) e = Expand(z, sizes) y = Add(x, e)",
        {"zero": np.float64(2), "sizes": np.array([3], np.int64)},
    )  # fmt: skip
    model = ir.from_proto(proto)
    assert len(fold_constants(model)) == 2
    assert [node.op_type for node in model.graph] == ["Add"]
    (result,) = ort.InferenceSession(to_bytes(model)).run(None, {"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(result, np.full((2, 3), 3, np.float32))


def test_a_cast_like_a_tensor_of_unknown_type_stays(model_of: ModelOf) -> None:
    proto = model_of(
        "float[n,3] x", "float[n,3] y", "r = Relu(x) z = CastLike(zero, r) y = Add(x, z)", {"zero": np.float32(0)}
    )
    assert fold_constants(ir.from_proto(proto)) == ()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_normalization_of_torch_s_newer_exporter_folds() -> None:
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(
        DigitNet().eval(),
        (torch.zeros(2, 1, 16, 16),),
        dynamo=True,
        optimize=False,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    model = load(onnx.load_from_string(program.model_proto.SerializeToString()))
    assert len(fold_batch_normalization(model)) == 9
