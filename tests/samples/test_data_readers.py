"""Our samples in other people's tools."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from dfq_deploy import OnnxRuntimeReader, PolygraphyLoader, Samples, SamplesError
from dfq_deploy.errors import OptionError

Model = Callable[..., onnx.ModelProto]

VALUES = np.array([[0.0, -2.0], [1.0, 0.5], [3.1, 0.0]], np.float32)


@pytest.fixture
def model(model_of: Model, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(model_of("float[n,2] x", "float[n,2] y", "y = MatMul(x, w)", {"w": np.eye(2, dtype=np.float32)}), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Samples(VALUES).save(tmp_path / "samples.npz")
    return tmp_path / "samples.npz"


def test_onnx_runtime_calibrates_on_our_samples(model: Path, file: Path, tmp_path: Path) -> None:
    quantize_static(
        model,
        tmp_path / "int8.onnx",
        OnnxRuntimeReader(file, model, batch=2),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        extra_options={"ActivationSymmetric": False},
    )
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    # Least -2 and greatest 3.1 over all batches, in 255 steps.
    assert found["x_scale"] == pytest.approx(5.1 / 255)
    assert found["x_zero_point"] == 100


def test_the_reader_can_begin_again(model: Path, file: Path) -> None:
    reader = OnnxRuntimeReader(file, model)
    assert len(reader) == 3
    first = [feed["x"] for feed in iter(reader.get_next, None)]
    assert reader.get_next() is None
    reader.rewind()
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in iter(reader.get_next, None)]), VALUES)
    np.testing.assert_array_equal(np.concatenate(first), VALUES)


def test_every_pass_over_the_loader_gives_the_same_batches(model: Path, file: Path) -> None:
    loader = PolygraphyLoader(file, model, batch=2)
    assert len(loader) == 2
    for _ in range(2):
        assert [feed["x"].shape for feed in loader] == [(2, 2), (1, 2)]
        np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in loader]), VALUES)


def test_polygraphy_runs_on_the_loader(model: Path, file: Path) -> None:
    comparator = pytest.importorskip("polygraphy.comparator")
    onnxrt = pytest.importorskip("polygraphy.backend.onnxrt")
    runner = onnxrt.OnnxrtRunner(onnxrt.SessionFromOnnx(str(model)))
    results = comparator.Comparator.run([runner], data_loader=PolygraphyLoader(file, model))
    outputs = np.concatenate([result["y"] for result in results[0][1]])
    np.testing.assert_array_equal(outputs, VALUES)


def test_other_inputs_come_in_their_own_type(model_of: Model) -> None:
    model = model_of("float[n,2] x, int64[n,1] k", "float[n,2] y", "f = Cast<to = 1>(k) y = Mul(x, f)", {})
    samples = Samples(VALUES, extra={"k": np.array([[1.0], [2.0], [3.0]])})
    feed = next(iter(PolygraphyLoader(samples, model)))
    assert {name: array.dtype for name, array in feed.items()} == {"x": np.float32, "k": np.int64}


def test_samples_that_do_not_fit(model: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"samples of shape \(3,\) do not fit the model's input \(2,\)"):
        OnnxRuntimeReader(Samples(np.zeros((4, 3), np.float32)), model)
    with pytest.raises(SamplesError, match="not a samples file"):
        PolygraphyLoader(model, model)
    with pytest.raises(OptionError, match="batch=0 must be at least 1"):
        PolygraphyLoader(file, model, batch=0)


def test_npy_for_tools_that_take_one_array(tmp_path: Path) -> None:
    Samples(VALUES, np.array([0, 1, 0])).save(tmp_path / "samples.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npy"), VALUES)
    with pytest.raises(SamplesError, match=r"samples\.npy: .* input 'k'; write an \.npz"):
        Samples(VALUES, extra={"k": np.zeros((3, 1))}).save(tmp_path / "more.samples.npy")
