"""What is said of processors without VNNI, and that figures do not depend on them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from dfq_deploy import ModelError, Samples, calibrate, evaluate
from dfq_deploy.runtime import processor
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.processor import SENTENCE, lacks_vnni, neighbor_sums, saturates, saturation_warnings
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import EXACT_PRODUCTS
from dfq_deploy.samples.image_folder import read_samples
from examples.digits import data
from tests.conftest import DEFAULT_SESSION

GIVEN: dict[str, Any] = {"synth": "procedural", "count": 16, "preprocess": data.PREPROCESS, "floor": "none"}


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI."""
    monkeypatch.setattr(processor, "lacks_vnni", lambda: True)


@pytest.fixture(scope="module")
def quantized(digits_folded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target -> a file of the digits' network, whose weights do not saturate, and one whose weights may."""
    folder = tmp_path_factory.mktemp("files")
    for target in ("cpu", "web"):
        calibrate(digits_folded, output=folder / target, target=target, refine=(), **GIVEN)
    return {target: folder / target / "model.qdq.onnx" for target in ("cpu", "web")}


@pytest.mark.parametrize(
    ("capabilities", "lacks"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_vnni": False}, True),
        ({"architecture": "x86_64", "avx512_vnni": True}, False),
        ({"architecture": "x86_64", "avx_vnni": True}, False),
        ({"architecture": "aarch64", "dotprod": True}, False),
    ],
)
def test_vnni_is_read_off_the_processor(
    capabilities: dict[str, Any], lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert lacks_vnni.__wrapped__() is lacks


def test_weights_for_cpus_saturate_nowhere(digits_folded: Path, quantized: dict[str, Path], old: None) -> None:
    assert [saturates(ir.load(quantized[target])) for target in ("web", "cpu")] == [True, False]
    assert not saturates(ir.load(digits_folded))


@pytest.mark.skipif(not lacks_vnni(), reason="this processor has VNNI")
def test_default_sessions_give_what_exact_ones_do(checkout: Path, quantized: dict[str, Path]) -> None:
    images = read_samples(checkout / "examples/digits/held_out.npz", data.PREPROCESS, (1, 16, 16)).images

    def difference(path: Path) -> float:
        scores = []
        for value in "01":
            options = ort.SessionOptions()
            options.add_session_config_entry(EXACT_PRODUCTS[0], value)
            session = DEFAULT_SESSION(str(path), options, providers=["CPUExecutionProvider"])
            scores.append(session.run(None, {session.get_inputs()[0].name: images})[0])
        return float(np.abs(scores[0] - scores[1]).max() / np.abs(scores[1]).max())

    assert difference(quantized["cpu"]) == 0
    assert difference(quantized["web"]) > 0.2


def test_neighbors_are_added_in_the_order_of_the_kernels() -> None:
    def sums(operator: str, weight: np.ndarray, domain: str = "", **attributes: int) -> list[int] | None:
        node = ir.node(operator, [ir.Value(name="x"), ir.Value(name="w")], attributes, domain=domain)
        found = neighbor_sums(node, weight.astype(np.int8))
        return None if found is None else found.tolist()

    rows = np.array([[100, 100, 0, 0, 7], [0, 100, 100, 0, 0], [-90, 90, -60, -70, 0]])
    expected = [200, 100, 130]
    assert sums("Gemm", rows, transB=1) == sums("Gemm", rows.T) == sums("MatMul", rows.T) == expected
    assert sums("QLinearMatMul", rows.T) == sums("DynamicQuantizeMatMul", rows.T, "com.microsoft") == expected
    assert sums("MatMul", np.stack([rows.T, -2 * (rows.T // 3)])) == expected  # of all the products in a stack
    assert sums("LSTM", rows[None]) == sums("DynamicQuantizeLSTM", rows.T[None], "com.microsoft") == expected
    assert sums("Conv", rows[:, :, None]) == sums("QLinearConv", rows[:, :, None, None]) == expected
    # The channels of one position are neighbors, and in ONNX Runtime the last of a position and the first of the next.
    assert sums("Conv", np.array([90, 1, 30, 2, 0, 60]).reshape(1, 3, 1, 2)) == [120]
    assert sums("Conv", np.array([0, 50, 0, 2, 90, 60]).reshape(1, 3, 1, 2)) == [140]
    assert sums("Conv", np.full((2, 1, 2, 2), 100), group=2) is None
    assert sums("Conv", np.full((4, 1, 2, 2), 100), group=2) == [200] * 4
    assert sums("Add", rows) is sums("Gemm", np.zeros((0, 3))) is sums("MatMul", np.ones(3)) is None


@pytest.mark.parametrize(("second", "found"), [(29, True), (28, False), (-127, False)])
def test_weights_inside_a_body_and_in_constant_nodes_count(second: int, found: bool, old: None) -> None:
    body = f"""<ir_version: 8, opset_import: ["" : 17]> g (bool c, uint8[1, 2] x, uint8 z) => (int32[1, 2] y) {{
        y = If (c) <then_branch = a () => (int32[1, 2] s) {{
            w = Constant <value = int8[2, 2] {{1, 100, 2, {second}}}> ()
            s = MatMulInteger (x, w)
        }}, else_branch = b () => (int32[1, 2] t) {{ t = Cast <to = 6> (x) }}>
    }}"""
    assert saturates(ir.from_proto(onnx.parser.parse_model(body))) is found


@pytest.mark.parametrize(
    ("weight", "rows", "found"),
    [
        ("v", "1, 2, 2, 100", False),
        ("v", "1, 100, 2, 29", True),
        ("Identity (v)", "1, 2, 2, 100", False),
        ("Identity (v)", "1, 100, 2, 29", True),
        ("Transpose (v)", "1, 100, 2, 29", False),
        ("Transpose (v)", "1, 2, 100, 29", True),
        ("Reshape (v, shape)", "1, 2, 2, 100", True),  # the order is not followed: the largest weight counts twice
    ],
)
def test_neighbors_are_followed_to_the_product(weight: str, rows: str, found: bool, old: None) -> None:
    weight, line = ("m", f"m = {weight}") if "(" in weight else (weight, "")
    model = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x, uint8 z) => (float[1, 2] y)
        <int8[2, 2] w = {{{rows}}}, float s = {{0.1}}, int64[2] shape = {{2, 2}}> {{
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
        v = DequantizeLinear (w, s) {line} y = MatMul (d, {weight}) }}"""
    assert saturates(ir.from_proto(onnx.parser.parse_model(model))) is found


def test_activations_quantized_by_onnx_runtime_s_own_operator_count(old: None) -> None:
    model = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[1, 2] x, uint8 z) => (float[1, 2] y) <int8[2, 2] w = {100, 2, 100, 4}, float s = {0.1}> {
        q = com.microsoft.QuantizeLinear (x, s, z) d = com.microsoft.DequantizeLinear (q, s, z)
        v = com.microsoft.DequantizeLinear (w, s) y = MatMul (d, v) }"""
    assert saturates(ir.from_proto(onnx.parser.parse_model(model)))


def test_weights_alone_in_integers_saturate_nothing(old: None) -> None:
    model = """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x) => (float[1, 2] y)
        <int8[2, 2] w = {1, 100, 2, 3}, float s = {0.1}> { v = DequantizeLinear (w, s) y = MatMul (x, v) }"""
    assert not saturates(ir.from_proto(onnx.parser.parse_model(model)))


def test_a_newer_processor_saturates_nothing(quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert not saturates(ir.load(quantized["web"]))


def test_what_is_no_model_is_refused_as_ever(tmp_path: Path, old: None) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        Runner(path)


def test_it_is_said_where_integers_run(
    digits_folded: Path, held_out: Samples, quantized: dict[str, Path], tmp_path: Path, old: None
) -> None:
    assert SENTENCE in calibrate(digits_folded, output=tmp_path / "int8", target="web", **GIVEN).report.warnings
    assert SENTENCE not in calibrate(digits_folded, output=tmp_path / "safe", **GIVEN).report.warnings
    assert SENTENCE in evaluate(digits_folded, quantized["web"], held_out).warnings
    assert SENTENCE not in evaluate(digits_folded, quantized["cpu"], held_out).warnings
    path = quantized["web"]
    assert saturation_warnings(path, count_kernels(path)) == (SENTENCE,)
    assert saturation_warnings(path, count_kernels(path, "rknn")) == ()
    assert saturation_warnings(digits_folded, count_kernels(digits_folded)) == ()
    assert saturation_warnings(path, None) == ()


def test_nothing_is_said_of_a_newer_processor(
    digits_folded: Path, held_out: Samples, quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert SENTENCE not in evaluate(digits_folded, quantized["web"], held_out).warnings


def test_sessions_ask_for_exact_sums_where_they_need_to(quantized: dict[str, Path], old: None) -> None:
    key, value = EXACT_PRODUCTS
    assert f'"{key}", "{value}"' in SENTENCE
    assert asked(Runner(quantized["web"])) == asked(Runner(quantized["web"].read_bytes())) == value
    assert not asked(Runner(quantized["cpu"]))


def test_sessions_stay_fast_on_a_newer_processor(quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert not asked(Runner(quantized["web"]))


def asked(runner: Runner) -> str:
    """The value of the option; empty where it is not set."""
    try:
        return str(runner.session.get_session_options().get_session_config_entry(EXACT_PRODUCTS[0]))
    except RuntimeError:
        return ""
