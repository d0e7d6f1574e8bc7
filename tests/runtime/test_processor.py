"""What is said of processors without VNNI, and that figures do not depend on them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dfq_deploy import Samples, calibrate, evaluate
from dfq_deploy.runtime import processor
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.processor import SENTENCE, adds_exactly, lacks_vnni, saturation_warnings
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import EXACT_PRODUCTS, session_options
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


def test_only_weights_beyond_64_saturate(quantized: dict[str, Path], old: None) -> None:
    assert [adds_exactly(quantized[bits]) for bits in ("w8a8", "w7a8")] == [False, True]


def test_a_newer_processor_saturates_nothing(quantized: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert adds_exactly(quantized["w8a8"])


def test_what_is_no_model_is_refused_as_ever(tmp_path: Path, old: None) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    assert not adds_exactly(path)


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


def test_sessions_ask_for_exact_sums_unless_they_are_anyway(quantized: dict[str, Path], old: None) -> None:
    key, value = EXACT_PRODUCTS
    assert f'"{key}", "{value}"' in SENTENCE
    assert asked(session_options(quiet_threads=True)) == value
    assert asked(Runner(quantized["w8a8"]).session.get_session_options()) == value
    assert not asked(Runner(quantized["w7a8"]).session.get_session_options())


def test_sessions_stay_fast_on_a_newer_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "lacks_vnni", lambda: False)
    assert not asked(session_options(quiet_threads=True))


def asked(options: Any) -> str:
    """The value of the option; empty where it is not set."""
    try:
        return str(options.get_session_config_entry(EXACT_PRODUCTS[0]))
    except RuntimeError:
        return ""
