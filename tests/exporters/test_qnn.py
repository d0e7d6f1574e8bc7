"""Qualcomm's NPU: the file and its context on the HTP simulator, where onnxruntime-qnn is installed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from dfq_deploy.exporters import qnn
from dfq_deploy.exporters.qnn import Qnn, open_session

from dfq_deploy import Encoding, Samples, TargetError, calibrate, find_target, load
from dfq_deploy.errors import PluginError
from dfq_deploy.quantization.encode import prepare

Tiny = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(3).normal(0, 1, (8, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(tiny: Tiny) -> tuple[ir.Model, dict[str, Encoding]]:
    """A model as it is prepared for QNN, and its encodings."""
    source = tiny()
    encodings = calibrate(source, data=Samples(IMAGES), target="qnn", refine=()).encodings
    return prepare(load(source), find_target("qnn")).model, dict(encodings)


@pytest.fixture
def simulator() -> None:
    pytest.importorskip("onnxruntime_qnn", reason="the HTP simulator is not installed: pip install 'dfq-deploy[qnn]'")


@pytest.mark.usefixtures("simulator")
def test_the_whole_graph_runs_on_the_simulator_and_so_does_its_context(
    quantized: tuple[ir.Model, dict[str, Encoding]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, notes, _ = Qnn().export(*quantized, tmp_path / "net.qnn.onnx")
    assert [file.name for file in files] == ["net.qnn.onnx", "net_ctx.onnx"]
    assert set(files) == set(tmp_path.iterdir())
    assert [node.op_type for node in onnx.load(files[1]).graph.node] == ["EPContext"]
    assert notes == ()
    plain = ort.InferenceSession(files[0], providers=["CPUExecutionProvider"])
    npu, loaded = (open_session(file) for file in files)
    assert "CPUExecutionProvider" not in npu.get_providers()[:1]
    for image in IMAGES:
        feed = {"image": image[None]}
        expected, found = plain.run(None, feed)[0], npu.run(None, feed)[0]
        np.testing.assert_array_equal(loaded.run(None, feed)[0], found)
        # Both round every tensor to 8 bits; they may do it differently by some steps.
        assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("simulator")
def test_what_the_npu_does_not_take_is_written_without_a_context(model_of: Tiny, tmp_path: Path) -> None:
    model = ir.from_proto(model_of("float[1,4] x", "float[1,4] y", "y = Celu(x)", {}))
    files, (note,), _ = Qnn().export(model, {}, tmp_path / "net.onnx")
    assert files == (tmp_path / "net.onnx",)
    assert note.startswith("no context was compiled: net.onnx: QNN refuses it: some nodes would be left to the CPU")
    with pytest.raises(TargetError, match=r"^net\.onnx: QNN refuses it: .*dfq-deploy check --target qnn says which$"):
        open_session(tmp_path / "net.onnx")


def test_without_the_simulator_the_file_is_written_all_the_same(
    quantized: tuple[ir.Model, dict[str, Encoding]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qnn, "has_simulator", lambda: False)
    (file,), (note,), _ = Qnn().export(*quantized, tmp_path / "net.qnn.onnx")
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 8, 8]
    assert "pip install 'dfq-deploy[qnn]'" in note
    with pytest.raises(PluginError, match="onnxruntime-qnn is not installed"):
        open_session(file)


def test_a_calibration_compiles_once(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def refuse(_: Qnn, source: Path, context: Path) -> None:
        compiled.append(source.name)
        raise TargetError(f"{source.name}: QNN refuses it")

    monkeypatch.setattr(qnn, "has_simulator", lambda: True)
    monkeypatch.setattr(Qnn, "_compile", refuse)
    result = calibrate(tiny(), data=Samples(IMAGES), target="qnn", refine=(), output=tmp_path / "out")
    assert compiled == ["model.qdq.onnx"]
    assert "no context was compiled: model.qdq.onnx: QNN refuses it" in result.report["warnings"]
