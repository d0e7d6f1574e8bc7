"""Loops without an end are refused where they are read; those that a condition ends are not."""

import onnx
import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.loops import check_loops

TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[4] x) => (float[4] y, float[n, 4] all)
<int64 trips = {TURNS}, bool begin = {1}>
{
  y, all = Loop <body = b (int64 i, bool go, float[4] s) => (bool still, float[4] t, float[4] each)
    { STILL t = Neg(s) each = Identity(t) }> (trips, begin, x)
}
"""

ON = "still = Identity(go)"


def _model(turns: int, still: str = ON) -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT.replace("TURNS", str(turns)).replace("STILL", still))


@pytest.mark.parametrize("still", [ON, "still = Constant <value = bool[1] {1}> ()"])
@pytest.mark.parametrize("turns", [2_000_000, 9223372036854775807])
def test_turns_beyond_the_limits_are_refused(turns: int, still: str) -> None:
    with pytest.raises(ModelError, match=rf"^Loop 'y' has {turns:,} turns, which take more than 1 s"):
        check_loops(_model(turns, still), 10, 2**40, 1.0)
    with pytest.raises(ModelError, match=r"or 1,048,576 bytes; raise --max-seconds or --max-memory"):
        check_loops(_model(turns, still), 10, 2**20, 1e18)


def test_turns_within_the_limits_pass() -> None:
    check_loops(_model(1000), 10, 2**20, 1.0)


@pytest.mark.parametrize(
    "still", ["still = Equal(i, i)", "still = Not(go)", "still = Constant <value = bool[1] {0}> ()"]
)
def test_a_condition_may_end_it_earlier(still: str) -> None:
    check_loops(_model(9223372036854775807, still), 10, 2**20, 1.0)


def test_a_loop_that_does_not_begin_passes() -> None:
    model = _model(9223372036854775807)
    begin = next(tensor for tensor in model.graph.initializer if tensor.name == "begin")
    begin.ClearField("int32_data")
    begin.raw_data = b"\x00"
    check_loops(model, 10, 2**20, 1.0)
