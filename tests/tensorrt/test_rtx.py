"""NVIDIA's own compiler, which needs no GPU: what it makes of our files, and what it says of broken ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from dfq_deploy.exporters.tensorrt import TensorRT
from numpy.typing import NDArray
from onnx import helper

from dfq_deploy import Samples, calibrate, export
from dfq_deploy.checking import check
from dfq_deploy.checking.compilers import ask_compiler
from dfq_deploy.cli.main import main
from dfq_deploy.errors import OptionError, PluginError, TargetError
from dfq_deploy.pipeline.results import Calibration
from dfq_deploy.runtime.tensorrt import rtx
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]
TinyModel = Callable[..., onnx.ModelProto]

pytestmark = pytest.mark.skipif(not rtx.rtx_version(), reason="TensorRT-RTX is not installed")

RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray[np.float32]:
    return (0.2 * RNG.normal(size=shape)).astype(np.float32)


FORMS: dict[str, tuple[str, str, dict[str, NDArray[np.float32]]]] = {
    "residual": (
        "float[n,4,8,8] x",
        "a = Conv <pads = [1,1,1,1]> (x, w) b = Relu(a) c = Conv <pads = [1,1,1,1]> (b, v) d = Add(c, b) y = Relu(d)",
        {"w": normal(8, 4, 3, 3), "v": normal(8, 8, 3, 3)},
    ),
    "depthwise": (
        "float[n,4,8,8] x",
        "a = Conv <group = 4, pads = [1,1,1,1]> (x, w) b = Clip(a, low, high) c = Conv(b, v) y = GlobalAveragePool(c)",
        {
            **{"w": normal(4, 1, 3, 3), "v": normal(8, 4, 1, 1)},
            **{"low": np.zeros((), np.float32), "high": np.full((), 6, np.float32)},
        },
    ),
    "products": (
        "float[n,16,32] x",
        "a = MatMul(x, w) b = Add(a, z) c = Gelu(b) d = MatMul(c, v) y = Softmax(d)",
        {"w": normal(32, 32), "v": normal(32, 32), "z": normal(32)},
    ),
}  # fmt: skip


def quantized(model: onnx.ModelProto | Path, folder: Path, **keywords: Any) -> Calibration:
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    samples = Samples(np.random.default_rng(1).normal(size=(8, *sizes)).astype(np.float32))
    options = {"target": "tensorrt", "method": "minmax", "refine": (), "floor": "none", **keywords}
    return calibrate(model, data=samples, output=folder / "out", **options)


@pytest.fixture
def one_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines for one capability, which the checker has compiled for already."""
    monkeypatch.setattr(rtx, "CAPABILITIES", (rtx.CHECKED,))


@pytest.mark.usefixtures("one_capability")
@pytest.mark.parametrize("form", FORMS)
def test_every_layer_of_our_files_multiplies_integers(form: str, model_of: ModelOf, tmp_path: Path) -> None:
    inputs, nodes, weights = FORMS[form]
    result = quantized(model_of(inputs, "float y", nodes, weights, opset=20), tmp_path)
    kernels = result.report.kernels
    assert kernels is not None
    assert kernels.listed
    assert (kernels.integer, kernels.in_float) == (2, ())
    assert tmp_path / "out/model.rtx.engine" in result.files


def test_the_digits_for_two_generations(digits_folded: Path, tmp_path: Path) -> None:
    result = quantized(digits_folded, tmp_path, floor="none")
    (path,) = (file for file in result.files if file.name == "model.qdq.onnx")
    found = export(path, to=TensorRT(compute_capability="86, 12.0"), output=tmp_path / "digits.onnx")
    assert [file.name for file in found.files] == ["digits.onnx", "digits.rtx.engine"]
    assert found.engine is not None
    layers = result.report.kernels.total  # type: ignore[union-attr]
    assert layers > 2
    version = rtx.rtx_version()
    assert found.notes[:3] == (
        f"TensorRT-RTX {version}, SM86: {layers} of {layers} layers in INT8",
        f"TensorRT-RTX {version}, SM120: {layers} of {layers} layers in INT8",
        f"digits.rtx.engine is compiled for SM86, SM120, and was not run: TensorRT-RTX {version} loads it there",
    )
    names = {node.name for node in onnx.load(path).graph.node if node.op_type in ("Conv", "Gemm")}
    for entry in found.engine["capabilities"]:
        products = [layer for layer in entry["layers"] if layer["kind"] in ("correlation", "gemm")]
        assert {name for layer in products for name in layer["nodes"]} & names == names
        assert all((layer["inputs"][0], layer["constants"][0]) == ("Int8", "Int8") for layer in products)
    assert json.dumps(found.to_json())
    page = (tmp_path / "out/report.html").read_text()
    assert f"SM89: {layers} of {layers} layers in 8 bits" in page


def test_turing_is_refused_in_nvidias_words(tiny: TinyModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    quantized(tiny(normalized=False), tmp_path)
    path.write_bytes((tmp_path / "out/model.qdq.onnx").read_bytes())
    found = export(path, to=TensorRT(compute_capability="75"), output=tmp_path / "new.onnx")
    assert found.files == (tmp_path / "new.onnx",)
    assert "'fc' for Turing (SM75): FP32 GEMM is not supported" in found.notes[0]
    assert found.notes[0].endswith("no float32 Gemm: build for it with TensorRT 10")
    assert found.notes[1] == "no engine was built: no capability is left"


def test_weights_of_4_bits_are_stored_in_bytes_that_the_builder_takes(tiny: TinyModel, tmp_path: Path) -> None:
    result = quantized(tiny(normalized=False), tmp_path, bits="w4a8")
    report = check(result.model_path, "tensorrt")  # type: ignore[arg-type]
    assert report.clean
    assert report.compiler.startswith("TensorRT-RTX ")
    assert report.kernels.integer == report.kernels.total == 2


def test_fp8_for_the_generations_that_have_it(tiny: TinyModel, tmp_path: Path) -> None:
    result = quantized(tiny(normalized=False), tmp_path, bits="fp8", float16=True)
    version = rtx.rtx_version()
    said = [warning for warning in result.report.warnings if "layers in" in warning]
    assert said == [f"TensorRT-RTX {version}, SM{capability}: 2 of 2 layers in FP8" for capability in (89, 120)]


def broken(model_of: ModelOf) -> onnx.ModelProto:
    """A convolution whose activation has a zero point of 3."""
    arrays = {
        **{"s": np.array(0.5, np.float32), "z": np.array(3, np.int8), "w": np.ones((4, 4, 1, 1), np.int8)},
        **{"v": np.ones(4, np.float32), "o": np.zeros(4, np.int8)},
    }
    nodes = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear <axis = 0> (w, v, o) "
        "y = Conv(d, e)"
    )
    model = model_of("float[1,4,8,8] x", "float y", nodes, arrays)
    for node in model.graph.node:
        node.name = f"the_{node.output[0]}"
    return model


def test_what_nvidia_refuses_stands_beside_our_rules(model_of: ModelOf, tmp_path: Path) -> None:
    onnx.save(broken(model_of), tmp_path / "model.onnx")
    report = check(tmp_path / "model.onnx", "tensorrt")
    ours = {entry.node for entry in report.errors if entry.rule == "zero-point"}
    theirs = [entry for entry in report.errors if entry.rule == "compiler"]
    assert ours == {"the_q", "the_d"}
    assert {entry.node for entry in theirs} & ours
    assert any("zero" in entry.found.lower() for entry in theirs)
    result = CliRunner().invoke(main, ["check", str(tmp_path / "model.onnx"), "--target", "tensorrt"])
    assert result.exit_code == 1
    assert "compiler  NVIDIA's own parser and builder accept the file" in result.stdout
    assert "refuses it for SM89" in result.stdout


def test_capabilities_are_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, model_of: ModelOf, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"^tensorrt: compute_capability=90 is not one of 75, 80, 86, 89, 120, 121$"):
        TensorRT(compute_capability="86,90")
    path = tmp_path / "model.onnx"
    onnx.save(broken(model_of), path)
    monkeypatch.setattr(rtx, "rtx_version", lambda: "")
    with pytest.raises(PluginError, match=r"^tensorrt: compute_capability needs TensorRT-RTX, .*; pip install 'dfq-"):
        export(path, to=TensorRT(compute_capability="86"), output=tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


def test_a_compiler_that_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "dies"
    worker.write_text("#!/bin/sh\necho 'CHECK failed' >&2\nkill -6 $$\n")
    worker.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(worker))
    with pytest.raises(TargetError, match=r"^TensorRT-RTX [\d.]+ ended with signal 6: CHECK failed$"):
        rtx.compile_file(tmp_path / "model.onnx", (86,), {})


def test_a_plug_in_of_tensorrt_that_rtx_lacks_is_no_fault_of_the_file(model_of: ModelOf) -> None:
    plugin, unknown = (with_last_node(model_of, *name) for name in (("EfficientNMS_TRT", "TRT"), ("Det", "")))
    said, violations = ask_compiler(plugin, find_target("tensorrt"))
    assert said.endswith(
        "cannot tell: it has no plug-in 'EfficientNMS_TRT', which the TensorRT on the device must have"
    )
    assert violations == ()
    _, violations = ask_compiler(unknown, find_target("tensorrt"))
    assert [violation.operator for violation in violations] == ["Det"]


def with_last_node(model_of: ModelOf, operator: str, domain: str) -> onnx.ModelProto:
    """A convolution, and a node behind it that TensorRT-RTX does not have."""
    weights = {"w": np.ones((4, 3, 1, 1), np.float32)}
    model = model_of("float[1,3,4,4] x", "float y", "c = Conv(x, w) y = Neg(c)", weights)
    model.graph.node[-1].op_type, model.graph.node[-1].domain = operator, domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model
