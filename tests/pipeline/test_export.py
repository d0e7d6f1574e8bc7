"""What goes to a device: from our files, from another tool's, and from a float model with its encodings."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from benchmarks.peers import quantize_with_onnxruntime
from dfq_deploy import Samples, calibrate, export
from dfq_deploy.cli.main import main
from dfq_deploy.errors import ModelError, OutputError, PluginError, TargetError

Tiny = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(0).normal(0, 1, (8, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def float_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(tiny(), path)
    return path


@pytest.fixture
def calibrated(float_file: Path, tmp_path: Path) -> Path:
    """The folder that ``calibrate`` fills."""
    calibrate(float_file, data=Samples(IMAGES), refine=(), output=tmp_path / "int8")
    return tmp_path / "int8"


def logits(path: Path, images: NDArray[np.float32] = IMAGES) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    step = session.get_inputs()[0].shape[0]
    count = step if isinstance(step, int) else len(images)
    parts = [session.run(None, {"image": images[at : at + count]})[0] for at in range(0, len(images), count)]
    return np.concatenate(parts)


def parameters(path: Path) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_a_quantized_file_keeps_its_q_and_dq(calibrated: Path, tmp_path: Path) -> None:
    source = calibrated / "model.qdq.onnx"
    found = export(source, to="qdq", output=tmp_path / "again.onnx")
    assert found.files == (tmp_path / "again.onnx",)
    before, after = parameters(source), parameters(tmp_path / "again.onnx")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(logits(tmp_path / "again.onnx"), logits(source))


def test_the_encodings_of_a_calibration_write_its_file_anew(float_file: Path, calibrated: Path, tmp_path: Path) -> None:
    export(float_file, to="qdq", encodings=calibrated / "encodings.json", output=tmp_path / "anew.onnx")
    before, after = parameters(calibrated / "model.qdq.onnx"), parameters(tmp_path / "anew.onnx")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.usefixtures("default_sessions")
def test_the_file_of_another_tool_goes_to_a_phone(float_file: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.onnx"
    quantize_with_onnxruntime(float_file, IMAGES, theirs)
    found = export(theirs, to="ort", output=tmp_path / "phone.ort")
    assert [file.name for file in found.files] == ["phone.ort", "phone.required_operators_and_types.config"]
    np.testing.assert_allclose(logits(tmp_path / "phone.ort"), logits(theirs), atol=1e-5)
    assert found.notes[0].startswith("usability check: NNAPI can take")


def test_a_folder_is_given_a_file_named_like_the_model(calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "phone").mkdir()
    found = export(calibrated / "model.qdq.onnx", to="qdq", output=tmp_path / "phone")
    assert found.files == (tmp_path / "phone/model.qdq.onnx",)


def test_what_the_command_says(calibrated: Path, tmp_path: Path) -> None:
    command = ["export", str(calibrated / "model.qdq.onnx"), "-o", str(tmp_path / "a.ort"), "--to"]
    run = CliRunner().invoke(main, [*command, "ort", "--option", "style=runtime", "--json"])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert (document["to"], document["files"][0]) == ("ort", str(tmp_path / "a.ort"))
    assert "enable_saved_runtime_optimizations" in document["notes"][-1]
    run = CliRunner().invoke(main, [*command, "qdq"])
    assert run.exit_code == 1
    assert "it is a file of another kind than .qdq.onnx, which would be lost" in run.stderr
    run = CliRunner().invoke(main, [*command, "qdq", "-o", str(tmp_path / "b.onnx")])
    assert run.exit_code == 0
    assert run.stdout.startswith(f"wrote  {tmp_path}/\n  b.onnx")
    run = CliRunner().invoke(main, [*command, "qdq", "--option", "depth=3"])
    assert run.exit_code == 2
    assert "the exporter 'qdq' has no option 'depth'; it has: external_data_above" in run.stderr


def test_what_cannot_be_exported(float_file: Path, calibrated: Path, tmp_path: Path) -> None:
    quantized, text = calibrated / "model.qdq.onnx", tmp_path / "text"
    text.write_text("[1, 2]")
    before = sorted(tmp_path.iterdir())
    refused: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (ModelError, "a float model; quantize it with dfq-deploy calibrate", lambda: export(float_file, to="qdq")),
        (
            ModelError,
            "already quantized .* give the float model",
            lambda: export(quantized, to="qdq", encodings=calibrated / "encodings.json", output=tmp_path / "x"),
        ),
        (
            ModelError,
            "text: no encodings can be read from it",
            lambda: export(float_file, to="qdq", encodings=text, output=tmp_path / "x"),
        ),
        (
            ModelError,
            "tensor 'ghost': it has an encoding, but the model has no tensor of that name",
            lambda: export(float_file, to="qdq", encodings=strange(calibrated), output=tmp_path / "x"),
        ),
        (OutputError, "it is the model that is read", lambda: export(quantized, to="qdq", output=quantized)),
        (PluginError, "no exporter 'tape'; installed: ", lambda: export(quantized, to="tape")),
        (TargetError, "unknown target 'abacus'", lambda: export(quantized, to="qdq", target="abacus")),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def strange(calibrated: Path) -> Path:
    """The encodings with one of a tensor that the model has not."""
    path = calibrated / "encodings.json"
    document = json.loads(path.read_text())
    document["tensors"]["ghost"] = document["tensors"]["image"]
    path.write_text(json.dumps(document))
    return path


def test_a_file_that_breaks_the_rules_of_the_runtime_is_refused(calibrated: Path, tmp_path: Path) -> None:
    source = calibrated / "model.qdq.onnx"
    with pytest.raises(TargetError, match=r"model\.qdq\.onnx breaks the rules of 'tensorrt': .*lists them$") as caught:
        export(source, to="qdq", target="tensorrt", output=tmp_path / "trt.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trt.onnx").exists()
    # Open batches are no obstacle to runtimes of static shapes: the exporter closes them.
    calibrate(tmp_path / "net.onnx", data=Samples(IMAGES), target="xnnpack", refine=(), output=tmp_path / "phone")
    found = export(tmp_path / "phone/model.qdq.onnx", to="qdq", target="xnnpack", output=tmp_path / "fine.onnx")
    assert found.files == (tmp_path / "fine.onnx",)


def test_calibrating_for_a_phone_writes_what_it_loads(calibrated: Path, tmp_path: Path) -> None:
    del calibrated
    result = calibrate(tmp_path / "net.onnx", data=Samples(IMAGES), target="nnapi", output=tmp_path / "phone")
    assert {"model.qdq.onnx", "model.ort", "required_operators_and_types.config"} <= {f.name for f in result.files}
    assert set(result.report["files"]) == {file.name for file in result.files}
    assert any(text.startswith("usability check: NNAPI can take") for text in result.report["warnings"])
    phone = tmp_path / "phone"
    np.testing.assert_allclose(logits(phone / "model.ort"), logits(phone / "model.qdq.onnx"), atol=1e-5)


@pytest.mark.parametrize(
    ("to", "name"), [("ort", "float.onnx"), ("qdq", "float.onnx"), ("qdq", "phone.ort"), ("ort", "phone.tflite")]
)
def test_a_model_of_another_kind_is_kept(
    calibrated: Path, float_file: Path, tmp_path: Path, to: str, name: str
) -> None:
    there = tmp_path / name
    there.write_bytes(float_file.read_bytes())
    with pytest.raises(
        OutputError, match=rf"^cannot write .*{name}: it is a f.*, which would be lost; choose another pl"
    ):
        export(calibrated / "model.qdq.onnx", to=to, output=there)
    assert there.read_bytes() == float_file.read_bytes()
    assert not (tmp_path / "float.ort").exists()


def test_a_file_of_the_same_kind_is_replaced(calibrated: Path, tmp_path: Path) -> None:
    for _ in range(2):
        export(calibrated / "model.qdq.onnx", to="ort", output=tmp_path / "again.ort")
        found = export(calibrated / "model.qdq.onnx", to="qdq", output=tmp_path / "again.onnx")
    assert {path.name for path in tmp_path.glob("again*")} == {
        "again.onnx",
        "again.ort",
        "again.required_operators_and_types.config",
    }
    np.testing.assert_array_equal(logits(found.files[0]), logits(calibrated / "model.qdq.onnx"))
