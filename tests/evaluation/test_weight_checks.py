"""Channels of a weight that changed places."""

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.evaluation import weight_checks
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.qdq_pairs import WeightPair

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("tried", "said"), [(1, ""), (64, "channel 1 holds what float has in channel 2")])
def test_only_so_many_channels_are_looked_for(tried: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel 0 is like none, and the two behind it changed places."""
    monkeypatch.setattr(weight_checks, "TRIED", tried)
    exact = rng.normal(size=(8, 32)).astype(np.float32)
    values = exact[[0, 2, 1, 3, 4, 5, 6, 7]]
    values[0] = rng.normal(size=32)
    encoding = Encoding.of_bounds(np.full(8, -4.0), np.full(8, 4.0), QuantType(8, signed=True, symmetric=True), 0)
    node = ir.node("Gemm", [ir.val("x"), ir.val("w")], {"transB": 1}, name="fc")
    pair = WeightPair("w", node, 1, 0, values, encoding, exact)
    empty = FloatWeights(ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 17}), ir_version=8))
    quantized = ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 17}), ir_version=8)
    (check,), _ = weight_checks.weight_checks(empty, quantized, [pair])
    assert check.is_fault
    assert check.detail == said
