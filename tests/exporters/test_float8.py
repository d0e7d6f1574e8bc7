"""FP8: the numbers against ONNX Runtime's own Q and DQ, and a calibration from end to end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from dfq_deploy import Samples, calibrate, finetune
from dfq_deploy.checking import check
from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import OptionError
from dfq_deploy.files.encodings_file import read_encodings
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.targets.catalog import TARGETS

TinyModel = Callable[..., onnx.ModelProto]

E4M3 = QuantType(8, signed=True, symmetric=True, floating=True)

SAMPLES = Samples(np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))

ROUND_TRIP = """
    <ir_version: 9, opset_import: ["" : 19]>
    agraph (float[n] x) => (float[n] y) <float s = {SCALE}, float8e4m3fn z = {0}> {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, s, z)
    }
"""


def test_rounding_is_that_of_onnx_runtime() -> None:
    encoding = Encoding.of_range(Range(-3.0, 2.0), E4M3)
    assert (str(E4M3), encoding.qtype.qmin, encoding.qtype.qmax) == ("e4m3", -448, 448)
    assert float(encoding.scale) == pytest.approx(3 / 448)
    model = onnx.parser.parse_model(ROUND_TRIP.replace("{SCALE}", f"{{{float(encoding.scale):.9g}}}"))
    values = np.concatenate([np.linspace(-4, 4, 2001), np.geomspace(1e-9, 5, 2001)]).astype(np.float32)
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": values})
    np.testing.assert_allclose(encoding.fake_quantize(values), expected, rtol=1e-6)
    tensor = torch.from_numpy(values).requires_grad_()
    rounded = fake_quantizers({"x": encoding})["x"](tensor)
    np.testing.assert_allclose(rounded.detach().numpy(), expected, rtol=1e-6)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert tensor.grad is not None
    away = np.abs(np.abs(values) - 3) > 0.01
    np.testing.assert_allclose(tensor.grad.numpy()[away], (np.abs(values) < 3)[away], atol=1e-6)


def test_calibration_in_fp8(tiny: TinyModel, tmp_path: Path) -> None:
    result = calibrate(
        tiny(opset=17), data=SAMPLES, target="tensorrt", bits="fp8", floor="none", output=tmp_path / "out"
    )
    path = tmp_path / "out/model.qdq.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version >= 9) == (19, True)
    integers = {array.data_type for array in model.graph.initializer} - {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert integers == {onnx.TensorProto.FLOAT8E4M3FN}
    assert check(path, "tensorrt").clean
    assert result.report.calibration.method == "minmax"
    assert result.report["comparison"]["outputs"][0]["snr_db"] > 20
    read = read_encodings(tmp_path / "out/encodings.json")
    assert {encoding.qtype for encoding in read.values()} == {E4M3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "cpu"}, f"bits: {TARGETS['cpu'].runtime} has no FP8; use --target tensorrt, or bits such as w8a8"),
        ({"method": "mse"}, "bits: fp8 has no integers, to which 'mse' rounds; leave it out"),
        ({"refine": ("reconstruct",)}, "bits: fp8 has no integers, to which 'reconstruct' rounds; leave it out"),
        ({"edge_bits": 8}, "bits: fp8 has 8 bits everywhere; leave the widths of edge layers and single layers out"),
    ],
)  # fmt: skip
def test_what_fp8_excludes_is_refused_before_any_work(tiny: TinyModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        calibrate(tiny(), data=SAMPLES, bits="fp8", **{"target": "tensorrt", **options})
    assert str(caught.value) == message


def test_finetune_trains_integers(tiny: TinyModel) -> None:
    with pytest.raises(OptionError, match=r"^bits: finetune trains integers; give widths such as w4a4$"):
        finetune(tiny(), data=SAMPLES, target="tensorrt", bits="fp8")


def test_activations_of_4_bits_are_refused_for_tensorrt(tiny: TinyModel) -> None:
    with pytest.raises(
        OptionError, match=r"^bits: TensorRT 10 and 11 .* takes activations of 8 bits, not 4; choose e.g"
    ):
        calibrate(tiny(), data=SAMPLES, target="tensorrt", bits="w4a4")
