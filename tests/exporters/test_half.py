"""Half precision for what stays in float: scales that half precision holds, and a file that computes the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.half import SMALLEST, half_scales

from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import check
from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import OptionError

TinyModel = Callable[..., onnx.ModelProto]

S8 = QuantType(8, signed=True, symmetric=True)


def test_scales_are_raised_to_what_half_precision_holds() -> None:
    scale = np.array([8e-18, 1e-6, 1 / 3, 2.0], np.float32)
    (raised,) = half_scales({"w": Encoding(scale, np.zeros(4, np.int32), S8, 0)}).values()
    stored = raised.scale.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(stored, raised.scale)
    assert (stored >= scale).all()
    assert stored[0] == np.float32(SMALLEST)
    assert stored[3] == 2.0
    # A third lies between two halves that differ by 2^-12.
    assert stored[2] - scale[2] < 2.0**-12


def test_a_file_in_half_precision(tiny: TinyModel, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    model = tiny(normalized=False)
    for folder, float16 in (("single", False), ("half", True)):
        calibrate(
            model, data=Samples(images), target="tensorrt", method="minmax", refine=(), floor="none", float16=float16,
            output=tmp_path / folder,
        )  # fmt: skip
    path = tmp_path / "half/model.qdq.onnx"
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    scales = {node.input[1] for node in written.graph.node if node.op_type.endswith("Linear")}
    floats = {array.data_type for array in written.graph.initializer if array.name in scales}
    assert floats == {onnx.TensorProto.FLOAT16}
    ends = {value.type.tensor_type.elem_type for value in (*written.graph.input, *written.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    assert check(path, "tensorrt").clean
    single, half = (
        ort.InferenceSession(tmp_path / folder / "model.qdq.onnx").run(None, {"image": images})[0]
        for folder in ("single", "half")
    )
    assert np.abs(single - half).max() < 0.02 * np.abs(single).max()


def test_other_exporters_have_no_half_precision(tiny: TinyModel) -> None:
    images = np.zeros((8, 3, 8, 8), np.float32)
    with pytest.raises(OptionError, match=r"^float16: for target 'cpu' the rest is float32; leave --float16 out$"):
        calibrate(tiny(), data=Samples(images), target="cpu", float16=True)
