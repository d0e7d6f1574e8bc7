"""Pairs of Q and DQ in files of other tools, which may say anything."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from dfq_deploy.evaluation.qdq_pairs import weight_pairs


def dense(axis: int, scales: int, shape: tuple[int, ...] = (3, 4)) -> ir.Model:
    """A product with a weight of ``shape`` that is dequantized with so many scales along an axis."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[n,3] x) => (float[n,4] y) {{'
        f" d = DequantizeLinear <axis: int = {axis}> (w, s)  y = MatMul(x, d) }}"
    )
    weight = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.full(scales, 0.5, np.float32), "s"))
    return ir.from_proto(model)


@pytest.mark.parametrize(("axis", "scales"), [(1, 4), (-1, 4), (0, 3)])
def test_a_weight_with_a_scale_for_each_channel(axis: int, scales: int) -> None:
    (pair,) = weight_pairs(dense(axis, scales))
    assert (pair.node.op_type, pair.encoding.scale.shape) == ("MatMul", (scales,))


@pytest.mark.parametrize(("axis", "scales"), [(5, 4), (-3, 4), (1, 3), (0, 4)])
def test_scales_that_fit_no_axis_make_no_pair(axis: int, scales: int) -> None:
    assert weight_pairs(dense(axis, scales)) == ()
