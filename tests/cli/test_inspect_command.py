"""``inspect`` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.cli.conftest import Model, fails, run


def test_inspect_on_one_screen(net: Path) -> None:
    result = run("inspect", net)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:11] == [
        "net.onnx  opset 17, written by unknown",
        "  input       image: float (batch, 3, 8, 8)",
        "  output      scores: float (batch, 4)",
        "  classes     4",
        "  parameters  214",
        "  operators   6, all supported by the twin: "
        "Conv 1, BatchNormalization 1, Relu 1, GlobalAveragePool 1, Flatten 1, Gemm 1",
        "  BatchNorm   1, all of which fold into weights",
        "  synthesis   adversarial, analytic, anchored, deepinversion, dfqf, gdfq, genie, hast, lis, noise, "
        "photographs,",
        "              procedural, psaq, qimera, zeroq",
        "  on cpu      2 of 2 layers in INT8",
        f"  size        {net.stat().st_size / 1e3:.1f} kB, about {lines[10].split('about ')[1]}",
    ]
    assert lines[11:] == ["", "  No problems found."]
    assert result.stderr == ""


def test_inspect_of_a_file_without_normalization_finds_no_problem(tmp_path: Path, tiny: Model) -> None:
    onnx.save(tiny(normalized=False), tmp_path / "folded.onnx")
    lines = run("inspect", tmp_path / "folded.onnx").stdout.splitlines()
    assert "  BatchNorm   none left in the graph" in lines
    assert any(line.startswith("note: no BatchNormalization is left") for line in lines)
    assert "  No problems found." in lines


def test_inspect_json_is_one_object(net: Path) -> None:
    document = json.loads(run("inspect", net, "--json").stdout)
    assert document["inputs"] == [{"name": "image", "dtype": "float", "shape": ["batch", 3, 8, 8]}]
    assert document["advice"] == []


def test_models_that_cannot_be_read(tmp_path: Path, net: Path) -> None:
    fails(1, f"{tmp_path / 'no.onnx'}: no such file; give the path of an .onnx file", "inspect", tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("this is a text file")
    fails(1, f"{tmp_path / 'text.onnx'}: not an ONNX model", "inspect", tmp_path / "text.onnx")
    (tmp_path / "short.onnx").write_bytes(net.read_bytes()[:-200])
    fails(1, f"{tmp_path / 'short.onnx'}: not an ONNX model, or cut short", "inspect", tmp_path / "short.onnx")


def test_weights_that_are_not_numbers(here: Path, tiny: Model) -> None:
    model = tiny()
    name = model.graph.initializer[0].name
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((6, 3, 3, 3), np.nan, np.float32), name))
    onnx.save(model, "nan.onnx")
    words = "nan.onnx: weight 'conv.weight' of Conv 'conv' holds NaN or infinity"
    fails(1, words, "calibrate", "nan.onnx", "--synth", "noise", "-o", "out")
    assert sorted(path.name for path in here.iterdir()) == ["nan.onnx"]
