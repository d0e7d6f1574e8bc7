"""The page of examples/web in headless Chromium, and the timing of WebAssembly in Node."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import check
from dfq_deploy.errors import PluginError
from dfq_deploy.runtime import wasm
from dfq_deploy.verdict import speed
from examples.web import headless

TinyModel = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def calibrated(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as the page takes them: the float model, the INT8 model for browsers, the samples."""
    folder = tmp_path_factory.mktemp("web")
    onnx.save(tiny(normalized=False), folder / "model.onnx")
    calibrate(
        folder / "model.onnx", data=Samples(IMAGES), target="web", method="minmax", refine=(), floor="none",
        output=folder / "out",
    )  # fmt: skip
    assert check(folder / "out/model.qdq.onnx", "web").clean
    out = folder / "out"
    return {"float": folder / "model.onnx", "int8": out / "model.qdq.onnx", "samples": out / "samples.npz"}


def test_the_page_agrees_with_onnx_runtime(calibrated: dict[str, Path]) -> None:
    if not headless.is_ready():
        pytest.skip("Chromium, or npm install in examples/web, is missing")
    result = headless.figures(calibrated, count=16, repeats=4)
    assert "error" not in result, result
    runs = [
        ort.InferenceSession(calibrated[name]).run(None, {"image": IMAGES})[0].argmax(1) for name in ("float", "int8")
    ]
    assert result["classes"] == np.stack(runs, axis=1).tolist()
    assert result["agreement"] == 100 * (runs[0] == runs[1]).mean()
    assert result["snr"] > 15
    assert min(result["ms"]) > 0
    assert result["verdict"].startswith("INT8 is ")


def test_a_file_that_is_not_there_is_said_on_the_page(calibrated: dict[str, Path]) -> None:
    if not headless.is_ready():
        pytest.skip("Chromium, or npm install in examples/web, is missing")
    result = headless.figures({"float": calibrated["float"], "int8": Path("none.onnx")})
    assert result["error"].startswith("given/int8: 404")


@pytest.fixture
def node(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node finds onnxruntime-web from the working folder."""
    monkeypatch.chdir(checkout / "examples/web")
    wasm.web_version.cache_clear()
    if not wasm.web_version():
        pytest.skip("Node, or npm install in examples/web, is missing")


@pytest.mark.usefixtures("node")
def test_the_speed_is_that_of_webassembly(calibrated: dict[str, Path]) -> None:
    samples = Samples(IMAGES)
    _, found = speed.speed_findings(calibrated["float"], calibrated["int8"], samples, target="web", seconds=0.2)
    assert found.code in ("slower-than-float", "as-fast-as-float", "faster-than-float")
    assert f"one thread of WebAssembly in Node, onnxruntime-web {wasm.web_version()})" in found.message
    with pytest.raises(PluginError, match=r"^onnxruntime-web [\d.]+ cannot run the model in Node: "):
        wasm.times_in_wasm((calibrated["samples"],), {}, seconds=0)


def test_without_node_the_speed_is_not_measured(calibrated: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "web_version", lambda: "")
    _, found = speed.speed_findings(calibrated["float"], calibrated["int8"], Samples(IMAGES), target="web")
    assert (found.code, found.level) == ("speed-not-measured", "OK")
    assert "in WebAssembly" not in found.message
    assert "INT8 may be slower than float" in found.message


def test_no_node_is_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    wasm.web_version.cache_clear()
    assert wasm.web_version() == ""
    wasm.web_version.cache_clear()
