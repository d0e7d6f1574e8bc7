"""ONNX Runtime's mobile format, converted by its own tools and run again."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.ort_mobile import CONFIGURATION, OrtMobile, OrtMobileRuntime
from dfq_deploy.exporters.qdq import Qdq
from numpy.typing import NDArray

from dfq_deploy import Encoding, QuantType, Range, TargetError, load
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.passes.static_shapes import fix_batch

Tiny = Callable[..., onnx.ModelProto]

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=False)
IMAGES = np.random.default_rng(1).normal(0, 1, (5, 3, 8, 8)).astype(np.float32)


def encoded(tiny: Tiny, qtype: QuantType) -> tuple[ir.Model, dict[str, Encoding]]:
    """A model whose convolution is quantized, with the encodings."""
    weight = QuantType(8, signed=True, symmetric=True)
    encodings = {
        "image": Encoding.of_range(Range(-4, 4), qtype),
        "conv.weight": Encoding.of_range(Range(-2, 2), weight),
        "relu": Encoding.of_range(Range(0, 12), qtype),
    }
    return load(tiny(normalized=False)), encodings


def logits(path: Path, images: NDArray[np.float32], **entries: str) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 8, 8]
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


@pytest.mark.usefixtures("default_sessions")
@pytest.mark.parametrize("qtype", [U8, S8], ids=str)
def test_the_ort_file_computes_what_the_qdq_file_does(
    tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str], qtype: QuantType
) -> None:
    files = OrtMobile().export(*encoded(tiny, qtype), tmp_path / "model.qdq.onnx").files
    assert capfd.readouterr() == ("", "")
    assert [file.name for file in files] == ["model.qdq.onnx", "model.ort", CONFIGURATION]
    assert set(files) == set(tmp_path.iterdir())
    assert files[1].read_bytes()[4:8] == b"ORTM"
    expected = logits(files[0], IMAGES, qdqisint8allowed="1")
    np.testing.assert_allclose(logits(files[1], IMAGES), expected, atol=1e-5)


def test_the_configuration_lists_the_operators_of_the_file_alone(tiny: Tiny, tmp_path: Path) -> None:
    _, listed = OrtMobile().export(*encoded(tiny, S8), tmp_path / "net.ort").files
    assert listed.name == f"net.{CONFIGURATION}"
    lines = listed.read_text().splitlines()
    assert lines[0].startswith("# What net.ort needs")
    # On Arm signed activations stay signed: XNNPACK takes no unsigned ones with signed weights.
    assert any("QLinearConv" in line and "int8_t" in line and "uint8_t" not in line for line in lines)
    assert str(tmp_path) not in listed.read_text()
    assert "Relu" not in listed.read_text()


def test_the_runtime_style_keeps_q_and_dq_for_providers_that_compile(tiny: Tiny, tmp_path: Path) -> None:
    ort_file, listed = OrtMobileRuntime().export(*encoded(tiny, U8), tmp_path / "net.ort").files
    text = listed.read_text()
    assert "DequantizeLinear" in text
    assert "Conv{" in text.replace("QLinearConv{", "")
    model, encodings = encoded(tiny, U8)
    fix_batch(model, 1)
    Qdq().export(model, encodings, tmp_path / "model.qdq.onnx")
    found = logits(ort_file, IMAGES, enable_saved_runtime_optimizations="1")
    np.testing.assert_allclose(found, logits(tmp_path / "model.qdq.onnx", IMAGES), atol=1e-5)


def test_what_the_usability_check_says(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    nnapi, coreml = OrtMobile().export(*encoded(tiny, U8), tmp_path / "net.ort").notes
    # Q and DQ of the image and of relu, DQ of the weight, Conv, Relu, pooling, Flatten, Gemm.
    assert nnapi == "usability check: NNAPI can take 10 of 10 nodes in 1 part (worth a try: yes)"
    assert coreml.endswith("it has no DequantizeLinear, Flatten, QuantizeLinear")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


def test_an_empty_name_at_the_end_is_no_input(model_of: Tiny, tmp_path: Path) -> None:
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    proto = model_of("float[1,3,4,4] x", "float[1,2,6,6] y", "p = Pad(x, pads) y = Conv(p, w)", weights)
    proto.graph.node[0].input.append("")
    written = OrtMobile().export(ir.from_proto(proto), {}, tmp_path / "model.qdq.onnx")
    assert written.notes[0] == "usability check: NNAPI can take 2 of 2 nodes in 1 part (worth a try: yes)"
    assert list(onnx.load(written.files[0]).graph.node[0].input) == ["x", "pads"]


def test_what_onnx_runtime_cannot_convert_is_said_in_one_line(model_of: Tiny, tmp_path: Path) -> None:
    model = ir.from_proto(model_of("float[1,2] x", "float[1,2] y", "y = Mystery(x)", {}))
    with pytest.raises(TargetError, match=r"convert_onnx_models_to_ort fails on the model: .*Mystery") as caught:
        OrtMobile().export(model, {}, tmp_path / "model.ort")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"style": "baked"}, {"platform": "x86"}, {"batch": 0}])
def test_options_that_do_not_exist(options: dict[str, str]) -> None:
    with pytest.raises(OptionError, match=r"^ort: "):
        OrtMobile(**options)
