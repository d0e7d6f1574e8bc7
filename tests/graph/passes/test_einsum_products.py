"""Einsum as MatMul: the function stays the same, and open sizes stay open."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.einsum_products import rewrite_einsums
from dfq_deploy.graph.writing import to_bytes

RNG = np.random.default_rng(0)


def _model(equation: str, inputs: str, constant: tuple[int, ...] | None, *, first: bool = False) -> onnx.ModelProto:
    other = "x" if constant is None and "z" not in inputs else "z" if constant is None else "w"
    operands = f"{other}, x" if first else f"x, {other}"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float y) '
        f'{{ y = Einsum <equation = "{equation}"> ({operands}) }}'
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    if constant is not None:
        proto.graph.initializer.append(numpy_helper.from_array(RNG.random(constant, np.float32), "w"))
    return proto


@pytest.mark.parametrize(
    ("equation", "inputs", "constant", "first"),
    [
        ("bij,jk->bik", "float[n,t,6] x", (6, 5), False),
        ("bij,kj->bik", "float[n,t,6] x", (5, 6), False),
        ("btd,dhk->bthk", "float[n,t,6] x", (6, 2, 3), False),
        ("bthk,hkd->btd", "float[n,t,2,3] x", (2, 3, 5), False),
        ("bij,jk->kbi", "float[n,t,6] x", (6, 5), False),
        ("ji,bj->bi", "float[n,6] x", (6, 5), True),
        ("bcn,oc->bon", "float[n,6,t] x", (5, 6), False),
        ("bhqd,bhkd->bhqk", "float[n,2,t,3] x, float[n,2,s,3] z", None, False),
        ("bqhd,bkhd->bhqk", "float[n,t,2,3] x, float[n,s,2,3] z", None, False),
        ("bhqk,bkhd->bqhd", "float[n,2,t,s] x, float[n,s,2,3] z", None, False),
        ("bij, bjk -> bik", "float[n,t,3] x, float[n,3,s] z", None, False),
        ("...d,ed->...e", "float[n,t,6] x", (5, 6), False),
        ("...i,ij->...j", "float[n,s,t,6] x", (6, 5), False),
        ("abc,cd", "float[n,t,6] x", (6, 5), False),
        ("bc,ac", "float[n,6] x", (5, 6), False),
        ("...ij,...jk", "float[n,t,3] x, float[n,3,s] z", None, False),
        ("...ij,...jk->...ik", "float[n,t,3] x, float[1,3,s] z", None, False),
    ],
)
def test_products_become_matmul(equation: str, inputs: str, constant: tuple[int, ...] | None, first: bool) -> None:
    proto = _model(equation, inputs, constant, first=first)
    model = load(proto)
    assert len(rewrite_einsums(model)) == 1
    assert {"MatMul"} <= {node.op_type for node in model.graph} <= {"MatMul", "Transpose", "Reshape"}
    onnx.checker.check_model(onnx.load_from_string(to_bytes(model)), full_check=True)
    for n, t, s in ((1, 4, 7), (3, 5, 2)):
        sizes = {"n": n, "t": t, "s": s}
        shapes = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
        feeds = {
            name: RNG.random([sizes.get(dim.dim_param, dim.dim_value) for dim in dims]).astype(np.float32)
            for name, dims in shapes.items()
        }
        sessions = [
            ort.InferenceSession(one, providers=["CPUExecutionProvider"])
            for one in (proto.SerializeToString(), to_bytes(model))
        ]
        expected, actual = (session.run(None, feeds)[0] for session in sessions)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("equation", "inputs"),
    [
        ("bij,bij->bij", "float[n,4,3] x"),
        ("bij,bij->b", "float[n,4,3] x"),
        ("bij,bkl->bik", "float[n,4,3] x"),
        ("...ij,...jk->ik", "float[n,3,3] x"),
    ],
)
def test_what_is_no_plain_product_stays(equation: str, inputs: str) -> None:
    model = load(_model(equation, inputs, None))
    assert rewrite_einsums(model) == ()
    assert [node.op_type for node in model.graph] == ["Einsum"]
