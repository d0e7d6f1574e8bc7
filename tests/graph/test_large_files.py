"""Models over the limit of a protobuf message, from the file to the check: the limit is lowered to a few kB.

Whatever is done to them must give, to the last bit, what it gives below the limit.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from dfq_deploy.exporters.ort_mobile import OrtMobile
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy.cli.main import main
from dfq_deploy.errors import ModelError, TargetError
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.graph import large_models
from dfq_deploy.graph.loading import load
from dfq_deploy.inspection.inspect import inspect
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion

ModelOf = Callable[..., onnx.ModelProto]

NODES = (
    "c = Conv <pads = [1,1,1,1]> (x, w1) n = BatchNormalization(c, s1, b1, m1, v1) r = Relu(n) "
    "d = Conv <pads = [1,1,1,1]> (r, w2) o = BatchNormalization(d, s2, b2, m2, v2) q = Relu(o) "
    "p = GlobalAveragePool(q) f = Flatten(p) h = Gemm <transB = 1> (f, w3, b3) k = Relu(h) y = MatMul(k, w4)"
)

FLOAT_BYTES, QUANTIZED_BYTES = 20_000, 6_000
"""Limits below the float weights of the model (24 kB) and below its quantized ones (7 kB)."""


def weights() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (64, 16), "b3": (64,), "w4": (64, 30)}
    found = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for index in "12":
        found |= {f"{name}{index}": rng.normal(0, 0.3, 16).astype(np.float32) for name in "bm"}
        found |= {f"{name}{index}": (0.5 + rng.random(16)).astype(np.float32) for name in "sv"}
    return found


@pytest.fixture
def path(model_of: ModelOf, tmp_path: Path) -> Path:
    """The model with external data."""
    found = tmp_path / "net.onnx"
    model = model_of("float[n,3,8,8] x", "float[n,30] y", NODES, weights())
    onnx.save(model, found, save_as_external_data=True, location="net.data", size_threshold=0)
    return found


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda size: monkeypatch.setattr(large_models, "LARGEST_MESSAGE", size)


def images(count: int = 4) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)


def stored(path: Path) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


DIFFERENT = ("seconds", "files", "quantized", "model", "findings", "latency", "run", "command")


def figures(report: Any) -> str:
    """A report without what must differ: seconds, files, when it ran, and what follows from times."""

    def plain(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {key: plain(value) for key, value in entry.items() if key not in DIFFERENT}
        return [plain(value) for value in entry] if isinstance(entry, list) else entry

    return json.dumps(plain(dict(report)))


def files_of(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# Reading


@pytest.mark.parametrize("form", ["path", "proto", "ir"])
def test_any_form_is_loaded(path: Path, limit: Callable[[int], None], form: str) -> None:
    (expected,) = Runner(path).run(Samples(images()))
    limit(FLOAT_BYTES)
    loaded = load(path if form == "path" else onnx.load(path) if form == "proto" else ir.load(path))
    assert not any(isinstance(value.const_value, ir.ExternalTensor) for value in loaded.graph.initializers.values())
    np.testing.assert_array_equal(Runner(loaded).run(Samples(images()))[0], expected)


def test_weights_of_a_file_are_mapped_and_not_read(path: Path, limit: Callable[[int], None]) -> None:
    limit(FLOAT_BYTES)
    tensor = load(path).graph.initializers["w2"].const_value
    assert tensor is not None
    assert not tensor.numpy().flags.owndata
    assert not tensor.numpy().flags.writeable


def test_an_old_opset_is_converted(model_of: ModelOf, tmp_path: Path, limit: Callable[[int], None]) -> None:
    """Squeeze has its axes in an attribute up to opset 12."""
    nodes = "h = MatMul(x, g) q = Unsqueeze <axes = [1]> (h) y = Squeeze <axes = [1]> (q)"
    array = np.random.default_rng(0).normal(0, 1, (16, 40)).astype(np.float32)
    path = tmp_path / "old.onnx"
    model = model_of("float[n,16] x", "float[n,40] y", nodes, {"g": array}, opset=11)
    onnx.save(model, path, save_as_external_data=True, location="old.data", size_threshold=0)
    limit(2000)
    loaded = load(path)
    assert loaded.opset_imports[""] == 13
    rows = images(2).reshape(2, -1)[:, :16].copy()
    np.testing.assert_allclose(Runner(loaded).run(Samples(rows))[0], rows @ array, rtol=1e-5, atol=1e-5)


def test_what_is_computed_from_constants_is_computed(model_of: ModelOf, limit: Callable[[int], None]) -> None:
    array = np.random.default_rng(0).normal(0, 1, (40, 16)).astype(np.float32)
    limit(2000)
    loaded = load(model_of("float[n,16] x", "float[n,40] y", "t = Transpose(g) y = MatMul(x, t)", {"g": array}))
    assert [node.op_type for node in loaded.graph] == ["MatMul"]
    np.testing.assert_array_equal(loaded.graph.initializers["t"].const_value.numpy(), array.T)  # type: ignore[union-attr]


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_missing_and_short_data(path: Path, limit: Callable[[int], None], kept: float) -> None:
    limit(9_000)
    data = path.with_name("net.data")
    data.write_bytes(data.read_bytes()[: int(kept * data.stat().st_size)])
    if not kept:
        data.unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: its external data cannot be read \(.*; keep the data file besi"):
        load(path)


def test_the_checker_looks_at_the_structure(path: Path, limit: Callable[[int], None]) -> None:
    model = onnx.load(path, load_external_data=False)
    model.graph.node[0].op_type = "Convolve"
    onnx.save(model, path)
    limit(FLOAT_BYTES)
    with pytest.raises(ModelError, match=r"net\.onnx: the ONNX checker refuses it: No Op registered for Convolve"):
        load(path)


# The commands


def test_inspect(path: Path, limit: Callable[[int], None]) -> None:
    expected = inspect(path)
    limit(FLOAT_BYTES)
    assert inspect(path) == expected
    assert expected.parameters == sum(array.size for array in weights().values())
    assert inspect(ir.load(path)).file_bytes == pytest.approx(inspect(onnx.load(path)).file_bytes, rel=0.02)


@pytest.mark.parametrize(("size", "bits"), [(FLOAT_BYTES, None), (QUANTIZED_BYTES, None), (3000, "w4a16")])
def test_calibrate(path: Path, tmp_path: Path, limit: Callable[[int], None], size: int, bits: str | None) -> None:
    expected = calibrate(path, synth="procedural", count=16, bits=bits, refine=["bias"], output=tmp_path / "small")
    before = files_of(tmp_path)
    limit(size)
    found = calibrate(path, synth="procedural", count=16, bits=bits, refine=["bias"], output=tmp_path / "large")
    assert files_of(tmp_path) == before | {"large"}
    np.testing.assert_array_equal(found.samples.images, expected.samples.images)
    assert figures(found.report) == figures(expected.report)
    assert found.encodings.keys() == expected.encodings.keys()
    arrays = [stored(tmp_path / folder / "model.qdq.onnx") for folder in ("small", "large")]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][name], array, strict=True)
    parted = size != FLOAT_BYTES
    assert ("model.qdq.onnx.data" in files_of(tmp_path / "large")) is parted
    assert ("model.qdq.onnx.data" in found.report["files"]) is parted
    written = sum(file.stat().st_size for file in found.files if file.name.startswith("model.qdq"))
    assert found.report["quantized"]["file_bytes"] == written


def test_nothing_in_the_quantized_file_points_to_the_float_one(
    path: Path, tmp_path: Path, limit: Callable[[int], None]
) -> None:
    """Biases of float layers and tables stay as they are: they must move into the new file."""
    limit(FLOAT_BYTES)
    found = calibrate(path, synth="procedural", count=8, bits="w8a8", refine=[], output=tmp_path / "out")
    path.unlink()
    path.with_name("net.data").unlink()
    assert found.model_path is not None
    model = onnx.load(found.model_path, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert np.asarray(Runner(found.model_path).run(Samples(images()))[0]).shape == (4, 30)


def test_samples_from_statistics(path: Path, limit: Callable[[int], None], tmp_path: Path) -> None:
    """With a journal, whose entries carry the model's fingerprint."""
    method = DeepInversion(iterations=3, batch=4)
    expected = synthesize(path, synth=method, count=8, unfinished=tmp_path / "unfinished")
    limit(FLOAT_BYTES)
    found = synthesize(path, synth=method, count=8, unfinished=tmp_path / "unfinished", resume=True)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.figures == expected.figures
    again = synthesize(path, synth=method, count=8)
    np.testing.assert_array_equal(again.images, expected.images)


def test_evaluate_and_check(path: Path, tmp_path: Path, limit: Callable[[int], None]) -> None:
    small = calibrate(path, synth="procedural", count=16, output=tmp_path / "small").model_path
    limit(QUANTIZED_BYTES)
    large = calibrate(path, synth="procedural", count=16, output=tmp_path / "large").model_path
    assert small is not None
    assert large is not None
    data = Samples(images(32))
    expected, found = (evaluate(path, file, data, source="noise") for file in (small, large))
    assert found.comparison == expected.comparison
    assert found.float_bytes == path.stat().st_size + path.with_name("net.data").stat().st_size
    assert found.quantized_bytes == large.stat().st_size + large.with_name("model.qdq.onnx.data").stat().st_size
    for command in (["check", large], ["evaluate", path, large], ["inspect", path]):
        result = CliRunner().invoke(main, [*map(str, command), "--json"])
        assert result.exit_code == 0, result.output


def test_pixels_in_integers_out(path: Path, tmp_path: Path, limit: Callable[[int], None]) -> None:
    expected = calibrate(path, synth="procedural", count=8, integer_io=True, output=tmp_path / "small").report
    limit(QUANTIZED_BYTES)
    found = calibrate(path, synth="procedural", count=8, integer_io=True, output=tmp_path / "large").report
    assert found["integer_io"] == expected["integer_io"]
    assert "model.integer.onnx.data" in found["files"]


# What cannot be done


def test_an_ort_file_holds_no_more_than_one_message(path: Path, tmp_path: Path, limit: Callable[[int], None]) -> None:
    limit(QUANTIZED_BYTES)
    words = r"^ort: the quantized model has 0\.0 GB of weights, and an \.ort file holds 2 GB; use --target cpu, "
    with pytest.raises(TargetError, match=words):
        OrtMobile().export(load(path), {}, tmp_path / "model.ort")
