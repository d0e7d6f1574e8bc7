"""Loops end with the limits of the file, whatever number of turns it asks for."""

import onnx
import pytest
import torch

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.twin import Twin
from dfq_deploy.validation.bounds import Bounds, use_bounds

TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[64] x) => (float[64] y, float[n, 64] all)
<int64 trips = {9223372036854775807}>
{
  y, all = Loop <body = b (int64 i, bool go, float[64] s) => (bool still, float[64] t, float[64] each)
    { still = Equal(i, i) t = Neg(s) each = Identity(t) }> (trips, , x)
}
"""


@pytest.mark.parametrize("limits", [Bounds(seconds=0.05), Bounds(memory=2**20)])
def test_a_loop_without_end_is_refused(limits: Bounds) -> None:
    twin = Twin.from_model(load(onnx.parser.parse_model(TEXT)))
    words = rf"Loop .* takes more than {limits.memory:,} bytes or {limits.seconds:g} s \([\d,]+ turns so far\)"
    with use_bounds(limits), pytest.raises(ModelError, match=words):
        twin(torch.ones(64))


def test_outputs_of_no_size_count_as_well() -> None:
    scalars = TEXT.replace("float[64]", "float").replace("float[n, 64] all", "float[n] all")
    twin = Twin.from_model(load(onnx.parser.parse_model(scalars)))
    with use_bounds(Bounds(memory=2**20)), pytest.raises(ModelError, match=r"\(1,0[0-9][0-9] turns so far\)"):
        twin(torch.tensor(1.0))
