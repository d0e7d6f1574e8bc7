"""What is said of processors without VNNI, and that figures do not depend on them."""

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch

from dfq_deploy import ModelError, Samples, calibrate, evaluate
from dfq_deploy.runtime import processor
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.processor import SENTENCE, lacks_vnni, saturates, saturation_warnings
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import EXACT_PRODUCTS
from examples.digits import data

GIVEN: dict[str, Any] = {"synth": "procedural", "count": 16, "preprocess": data.PREPROCESS, "floor": "none"}


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI."""
    monkeypatch.setattr(processor, "lacks_vnni", lambda: True)


@pytest.fixture(scope="module")
def quantized(digits_folded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bits -> a file of the digits' network."""
    folder = tmp_path_factory.mktemp("files")
    for bits in ("w8a8", "w7a8"):
        calibrate(digits_folded, output=folder / bits, bits=bits, refine=(), **GIVEN)
    return {bits: folder / bits / "model.qdq.onnx" for bits in ("w8a8", "w7a8")}


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


def test_only_weights_beyond_64_saturate(digits_folded: Path, quantized: dict[str, Path], old: None) -> None:
    assert [saturates(ir.load(quantized[bits])) for bits in ("w8a8", "w7a8")] == [True, False]
    assert not saturates(ir.load(digits_folded))


@pytest.mark.parametrize(("largest", "found"), [(65, True), (-65, True), (64, False)])
def test_weights_inside_a_body_and_in_constant_nodes_count(largest: int, found: bool, old: None) -> None:
    body = f"""<ir_version: 8, opset_import: ["" : 17]> g (bool c, uint8[1, 2] x, uint8 z) => (int32[1, 2] y) {{
        y = If (c) <then_branch = a () => (int32[1, 2] s) {{
            w = Constant <value = int8[2, 2] {{1, {largest}, 2, 3}}> ()
            s = MatMulInteger (x, w)
        }}, else_branch = b () => (int32[1, 2] t) {{ t = Cast <to = 6> (x) }}>
    }}"""
    assert saturates(ir.from_proto(onnx.parser.parse_model(body))) is found


def test_weights_alone_in_integers_saturate_nothing(old: None) -> None:
    model = """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x) => (float[1, 2] y)
        <int8[2, 2] w = {1, 100, 2, 3}, float s = {0.1}> { v = DequantizeLinear (w, s) y = MatMul (x, v) }"""
    assert not saturates(ir.from_proto(onnx.parser.parse_model(model)))


def test_a_newer_processor_saturates_nothing(quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert not saturates(ir.load(quantized["w8a8"]))


def test_what_is_no_model_is_refused_as_ever(tmp_path: Path, old: None) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        Runner(path)


def test_it_is_said_where_integers_run(
    digits_folded: Path, held_out: Samples, quantized: dict[str, Path], tmp_path: Path, old: None
) -> None:
    assert SENTENCE in calibrate(digits_folded, output=tmp_path / "int8", **GIVEN).report.warnings
    assert SENTENCE in evaluate(digits_folded, quantized["w8a8"], held_out).warnings
    assert SENTENCE not in evaluate(digits_folded, quantized["w7a8"], held_out).warnings
    path = quantized["w8a8"]
    assert saturation_warnings(path, count_kernels(path)) == (SENTENCE,)
    assert saturation_warnings(path, count_kernels(path, "rknn")) == ()
    assert saturation_warnings(digits_folded, count_kernels(digits_folded)) == ()
    assert saturation_warnings(path, None) == ()


def test_nothing_is_said_of_a_newer_processor(
    digits_folded: Path, held_out: Samples, quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert SENTENCE not in evaluate(digits_folded, quantized["w8a8"], held_out).warnings


def test_sessions_ask_for_exact_sums_where_they_need_to(quantized: dict[str, Path], old: None) -> None:
    key, value = EXACT_PRODUCTS
    assert f'"{key}", "{value}"' in SENTENCE
    assert asked(Runner(quantized["w8a8"])) == asked(Runner(quantized["w8a8"].read_bytes())) == value
    assert not asked(Runner(quantized["w7a8"]))


def test_sessions_stay_fast_on_a_newer_processor(quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert not asked(Runner(quantized["w8a8"]))


def asked(runner: Runner) -> str:
    """The value of the option; empty where it is not set."""
    try:
        return str(runner.session.get_session_options().get_session_config_entry(EXACT_PRODUCTS[0]))
    except RuntimeError:
        return ""
