"""The command, and files of other tools."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result

from benchmarks.peers import quantize_with_onnxruntime
from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import RULES, check
from dfq_deploy.checking.registry import rule
from dfq_deploy.checking.violation import Report, Violation
from dfq_deploy.cli.main import main
from dfq_deploy.cli.views.checking import show_check
from dfq_deploy.errors import ModelError, TargetError
from dfq_deploy.runtime.kernel_count import KernelCount

TinyModel = Callable[..., onnx.ModelProto]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *(str(argument) for argument in arguments)])


@pytest.fixture
def theirs(tiny: TinyModel, tmp_path: Path) -> Path:
    """A file that ONNX Runtime's own quantizer has written: u8 with s8 per channel."""
    source, path = tmp_path / "float.onnx", tmp_path / "theirs.onnx"
    onnx.save(tiny(normalized=False), source)
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    quantize_with_onnxruntime(source, images, path)
    return path


def test_a_file_of_which_nothing_runs_in_integers(tiny: TinyModel, tmp_path: Path) -> None:
    onnx.save(tiny(normalized=False), tmp_path / "float.onnx")
    assert check(tmp_path / "float.onnx").warnings == ()  # a float file is not meant to
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    calibrate(tmp_path / "float.onnx", data=Samples(images), target="tensorrt", refine=(), output=tmp_path / "int8")
    file = tmp_path / "int8/model.qdq.onnx"
    assert check(file, "tensorrt").warnings == ()
    (said,) = check(file, "cpu").warnings
    assert said.startswith("nothing runs in INT8 for cpu though the file has Q and DQ: all 2 layers are float, Conv ")
    for options in ((), ("-q",)):
        assert "! nothing runs in INT8 for cpu" in run(file, *options).stdout
    assert json.loads(run(file, "--json").stdout)["warnings"] == [said]


def test_a_clean_file_of_another_tool(theirs: Path) -> None:
    result = run(theirs)
    assert result.exit_code == 0
    head, _, advice, *layers, way_out, _, note, _, verdict = result.stdout.splitlines()
    assert head == "theirs.onnx for cpu  14 rules"
    assert advice.startswith("saturating-sums  advice, not enforced: Two neighboring weights of one sign add up to 128")
    assert len(layers) == 3
    assert way_out.startswith("  -> calibrate for this target")
    assert note == "note: 2 of 2 layers in INT8"
    assert verdict == "clean: no rule of cpu is broken; 2 of advice"


def test_violations_are_listed_by_rule_with_the_way_out(theirs: Path) -> None:
    result = run(theirs, "--target", "tensorrt")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("theirs.onnx for tensorrt  ")
    start = lines.index("float-bias  A bias stays float")
    assert lines[start : start + 3] == [
        "float-bias  A bias stays float",
        "  Gemm 'fc': its bias is s32",
        "  -> leave the bias in float",
    ]
    assert re.fullmatch(r"broken: \d+ rules of tensorrt in \d+ places(; \d of advice)?", lines[-1])


def test_many_places_of_one_rule_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(Violation("opset", f"n{index}\x1b[2J", "Conv", "is old", "upgrade it") for index in range(17))
    report = Report("a.onnx", "cpu", {"opset": "Is new"}, many, KernelCount((), 0, (), "ONNX Runtime"))
    show_check(report, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:8] == [
        "opset  Is new",
        *(f"  Conv 'n{index}\\x1b[2J': is old" for index in range(3)),
        "  and 14 more",
        "  -> upgrade it",
    ]
    assert lines[-1] == "broken: 1 rule of cpu in 17 places"
    show_check(report, verbose=True)
    assert "  Conv 'n16\\x1b[2J': is old" in capsys.readouterr().out


def test_json_has_every_violation(theirs: Path) -> None:
    result = run(theirs, "--target", "nnapi", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["target"], document["clean"]) == ("nnapi", False)
    assert set(document["rules"]) <= set(RULES)
    (violation,) = (entry for entry in document["violations"] if entry["rule"] == "static-shape")
    assert violation == {
        "rule": "static-shape",
        "node": "image",
        "operator": "input",
        "found": "its shape is (batch, 3, 8, 8) (--input-shape image:1,3,8,8)",
        "way_out": "fix the size, e.g. dfq-deploy calibrate --input-shape NAME:1,3,224,224",
        "level": "error",
    }


def test_a_float_model_has_float_layers(tiny: TinyModel) -> None:
    report = check(tiny(normalized=False))
    assert [(entry.rule, entry.node) for entry in report.violations] == [
        ("float-weighted", "conv"),
        ("float-weighted", "fc"),
    ]


def test_what_is_handed_over_in_memory_stays_as_it_is(tiny: TinyModel) -> None:
    proto = tiny()
    before = proto.SerializeToString()
    check(proto)
    assert proto.SerializeToString() == before
    model = ir.from_proto(proto)
    check(model)
    assert [node.op_type for node in model.graph] == [node.op_type for node in proto.graph.node]


def test_external_data_that_is_missing(tiny: TinyModel, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(tiny(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert check(path).violations == check(tiny()).violations
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: its external data cannot be read .*; keep the data file beside"):
        check(path)


def test_core_ml_is_refused(theirs: Path) -> None:
    with pytest.raises(TargetError, match=r"^target 'coreml' is refused: .*coremltools"):
        check(theirs, "coreml")
    assert run(theirs, "--target", "coreml").exit_code == 2


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        check(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        check(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="no graph"):
        check(onnx.ModelProto())


def test_a_rule_has_one_name() -> None:
    with pytest.raises(ValueError, match="'opset' is already registered"):
        rule("opset", "")(lambda view, target: iter(()))
