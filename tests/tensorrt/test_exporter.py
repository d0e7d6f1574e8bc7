"""The exporter for TensorRT where TensorRT is not: the QDQ file, the cache, the commands, the way from cache to QDQ."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from dfq_deploy.exporters.tensorrt import TensorRT
from onnx import numpy_helper

from dfq_deploy import calibrate, export
from dfq_deploy.checking import check
from dfq_deploy.encodings import Range
from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import BuildingExporter, ImplicitExporter
from dfq_deploy.samples.samples import Samples

TinyModel = Callable[..., onnx.ModelProto]
ModelOf = Callable[..., onnx.ModelProto]


@pytest.fixture(autouse=True)
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens here must not depend on the machine."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples(np.random.default_rng(0).uniform(-2, 2, (16, 3, 8, 8)).astype(np.float32))


@pytest.fixture(scope="module")
def calibrated(tiny: TinyModel, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a calibration for TensorRT by min-max; ``float.onnx`` in it is the model."""
    folder = tmp_path_factory.mktemp("tensorrt")
    onnx.save(tiny(), folder / "float.onnx")
    calibrate(folder / "float.onnx", data=samples, target="tensorrt", method="minmax", output=folder)
    return folder


def scales(path: Path) -> dict[str, float]:
    """Name of each quantized activation of a QDQ file -> scale."""
    model = onnx.load(path)
    constants = {array.name: numpy_helper.to_array(array) for array in model.graph.initializer}
    quantized = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0]: float(constants[node.input[1]]) for node in quantized}


def lines(cache: Path) -> dict[str, str]:
    return dict(line.rsplit(": ", 1) for line in cache.read_text().splitlines()[1:])


def test_the_cache_has_every_tensor_of_the_float_model(calibrated: Path, samples: Samples) -> None:
    import onnxruntime as ort

    model = onnx.load(calibrated / "float.onnx")
    names = ["image", *(node.output[0] for node in model.graph.node)]
    assert (calibrated / "calibration.cache").read_text().startswith("TRT-100300-EntropyCalibration2\n")
    found = lines(calibrated / "calibration.cache")
    assert list(found) == names == ["image", "conv", "bn", "relu", "pool", "flat", "scores"]
    # Min-max of real samples (no headroom) is the largest magnitude that ONNX Runtime gives for those calibrated with.
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[1:-1])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    used = samples.images[np.arange(16) % 8 != 7]
    arrays = dict(zip(names[1:], session.run(names[1:], {"image": used}), strict=True)) | {"image": used}
    for name in names:
        scale = np.frombuffer(bytes.fromhex(found[name]), ">f4")[0]
        np.testing.assert_allclose(scale, np.abs(arrays[name]).max() / 127, rtol=1e-6)


def test_the_qdq_file_keeps_the_rules_of_tensorrt(calibrated: Path) -> None:
    assert check(calibrated / "model.qdq.onnx", "tensorrt").violations == ()
    model = onnx.load(calibrated / "model.qdq.onnx")
    types = {array.name: array.data_type for array in model.graph.initializer}
    biases = [node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(biases) == 2
    assert {types[name] for name in biases} == {onnx.TensorProto.FLOAT}


def test_a_cache_becomes_the_same_qdq_file_as_the_calibration_behind_it(calibrated: Path, tmp_path: Path) -> None:
    found = export(
        calibrated / "float.onnx",
        to="tensorrt",
        encodings=calibrated / "calibration.cache",
        output=tmp_path / "new.onnx",
    )
    assert found.files == (tmp_path / "new.onnx",)
    assert check(tmp_path / "new.onnx", "tensorrt").violations == ()
    # The cache was measured before BatchNormalization was folded, which rounds otherwise.
    assert set(scales(tmp_path / "new.onnx")) == {"image", "flat"}
    assert scales(tmp_path / "new.onnx") == pytest.approx(scales(calibrated / "model.qdq.onnx"), rel=1e-6)
    assert found.notes == (
        "no engine was built: TensorRT's Python package does not load (import of tensorrt halted; None in sys.modules)",
        "on the device: trtexec --onnx=new.onnx --stronglyTyped --shapes=image:1x3x8x8 --saveEngine=new.engine",
    )


def test_a_cache_of_tensorrt_lacks_what_it_fused_and_has_names_of_its_own(calibrated: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.cache"
    old.write_bytes(
        b"TRT-8601-EntropyCalibration2\nimage: 3c810204\nrelu: 3d000000\npool: 3d000000\n"
        b"(Unnamed Layer* 5) [Constant]_output: 3c010204\nscores: 3d000000\n"
    )
    found = export(calibrated / "float.onnx", to="tensorrt", encodings=old, output=tmp_path / "new.onnx")
    assert scales(tmp_path / "new.onnx") == {"image": float(np.float32(2 / 127)), "flat": 2.0**-5}
    assert found.notes[0] == "old.cache has no range for 1 quantized tensor(s); they are derived: flat from pool"
    assert found.notes[1].startswith("no engine was built: "), "what TensorRT's parser adds is in no model"


def test_a_cache_that_lacks_too_much_is_one_line(calibrated: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.cache"
    old.write_bytes(b"TRT-8601-EntropyCalibration2\nconv: 3c010204\n")
    with pytest.raises(
        ModelError, match=r"^old\.cache: no range for 2 of the 2 tensors that tensorrt quantizes \(imag"
    ):
        export(calibrated / "float.onnx", to="tensorrt", encodings=old, output=tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


def test_the_commands_stand_in_the_report(calibrated: Path) -> None:
    report = (calibrated / "report.json").read_text()
    assert "trtexec --onnx=model.qdq.onnx --stronglyTyped --shapes=image:1x3x8x8 --saveEngine=model.engine" in report
    assert (
        "trtexec --onnx=FLOAT.onnx --int8 --fp16 --calib=calibration.cache --shapes=image:1x3x8x8 "
        "--saveEngine=model.engine"
    ) in report


def test_options_reach_the_command_and_odd_names_are_quoted(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("float[n,2] x, float[3,2] y", "float[n,2] z", "a = Add(x, x)\n z = Identity(a)", {})
    model.graph.input[0].name = model.graph.node[0].input[0] = model.graph.node[0].input[1] = "in:0"
    onnx.save(model, tmp_path / "m.onnx")
    exporter = TensorRT(batch=4, max_batch=8, workspace_mib=256)
    files, said, _ = exporter.build(tmp_path / "m.onnx")
    assert files == ()
    assert shlex.split(said[1].removeprefix("on the device: ")) == [
        *("trtexec", "--onnx=m.onnx", "--stronglyTyped", "--minShapes='in:0':1x2", "--optShapes='in:0':4x2"),
        *("--maxShapes='in:0':8x2", "--saveEngine=m.engine", "--memPoolSize=workspace:256"),
    ]


def test_a_fixed_batch_needs_no_shapes(tiny: TinyModel, tmp_path: Path) -> None:
    onnx.save(tiny(batch=2), tmp_path / "m.onnx")
    said = TensorRT().build(tmp_path / "m.onnx").notes
    assert said[1] == "on the device: trtexec --onnx=m.onnx --stronglyTyped --saveEngine=m.engine"


def test_more_than_an_open_batch_is_said_instead_of_a_command(tiny: TinyModel, tmp_path: Path) -> None:
    onnx.save(tiny(size="side"), tmp_path / "m.onnx")
    said = TensorRT().build(tmp_path / "m.onnx").notes
    assert said[1:] == (
        "input 'image': shape (batch, 3, side, side) is open beyond the batch; tell trtexec its --minShapes, "
        "--optShapes and --maxShapes, or close it with --fix-shapes",
    )


def test_the_engine_can_be_left_out(tiny: TinyModel, tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "m.onnx")
    assert TensorRT(engine=False).build(tmp_path / "m.onnx")[1][0] == "no engine was built: engine=false"


def test_the_version_of_the_cache_can_be_chosen(tmp_path: Path) -> None:
    assert TensorRT(version="8.6.1").write_ranges({"x": Range(-127, 1)}, tmp_path) == (tmp_path / "calibration.cache",)
    assert (tmp_path / "calibration.cache").read_bytes() == b"TRT-8601-EntropyCalibration2\nx: 3f800000\n"
    assert TensorRT().read_ranges(tmp_path / "calibration.cache") == {"x": Range(-127, 127)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "tensorrt: batch=0 with max_batch=0; give a batch of 1 or more"),
        ({"batch": 8, "max_batch": 4}, "tensorrt: batch=8 with max_batch=4; give"),
        ({"level": 6}, "tensorrt: level=6 with workspace_mib=0; give a level of 0 to 5"),
        ({"workspace_mib": -1}, "tensorrt: level=3 with workspace_mib=-1; give"),
        ({"version": "ten"}, "tensorrt: version=ten is not a version of TensorRT; give one such as 10.3.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        TensorRT(**options)
    assert str(caught.value).startswith(message)


def test_what_has_infinities_gets_no_cache_but_everything_else(
    model_of: ModelOf, samples: Samples, tmp_path: Path
) -> None:
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "low": np.full((1,), -np.inf, np.float32)}
    nodes = "a = Conv(x, w)\n b = Min(a, low)\n c = Relu(b)\n y = Max(a, c)"
    model = load(model_of("float[n,3,8,8] x", "float[n,4,8,8] y", nodes, weights))
    result = calibrate(model, data=samples, target="tensorrt", refine=[], output=tmp_path / "out")
    assert not (tmp_path / "out/calibration.cache").exists()
    assert (tmp_path / "out/model.qdq.onnx").exists()
    (said,) = (line for line in result.report["warnings"] if "ranges of the float model" in line)
    assert said.startswith(
        "the ranges of the float model were not written: tensor 'b': NaN or infinity among its values"
    )


def test_it_is_what_the_core_asks_for() -> None:
    assert isinstance(TensorRT(), BuildingExporter)
    assert isinstance(TensorRT(), ImplicitExporter)
