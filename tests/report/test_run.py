"""How a result was made."""

import hashlib
import json
from pathlib import Path

import onnx_ir as ir

from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.report.run import plain_options, python_call, run_section
from dfq_deploy.report.writing import page_of
from dfq_deploy.samples.preprocess import Preprocess


def test_options_are_those_that_were_given() -> None:
    given = {
        "synth": "noise", "seed": 0, "bits": None, "data": Path("a/b"), "refine": (), "keep_float": ["x", "y"],
        "preprocess": Preprocess((0.5,), (0.25,)), "integer_io": True, "shapes": {"x": (1, 2)}, "odd": object(),
    }  # fmt: skip
    assert plain_options(given, {"seed": 0, "integer_io": False}) == {
        "synth": "noise", "data": "a/b", "keep_float": ["x", "y"],
        "preprocess": "<mean 0.5, std 0.25>", "integer_io": True, "shapes": {"x": [1, 2]},
        "odd": "<object>",
    }  # fmt: skip


def test_a_call_can_be_pasted() -> None:
    text = python_call("calibrate", "net.onnx", {"synth": "noise", "count": 8, "integer_io": True})
    assert text == "dfq_deploy.calibrate('net.onnx', synth='noise', count=8, integer_io=True)"


def test_the_section_names_model_versions_and_machine(digits_bn: Path) -> None:
    found = run_section("dfq-deploy calibrate", {}, digits_bn, ir.load(digits_bn))
    assert found.model_sha256 == hashlib.sha256(digits_bn.read_bytes()).hexdigest()
    assert {"Python", "dfq-deploy", "torch", "onnxruntime"} <= set(found.versions)
    assert found.processor
    assert found.cores >= 1
    assert found.date.endswith("+00:00")


def test_a_model_in_memory_is_known_by_its_graph(digits_bn: Path) -> None:
    found = run_section("dfq_deploy.calibrate(model)", {}, None, ir.load(digits_bn))
    assert len(found.model_sha256) == 16


def test_a_report_says_how_it_was_made(digits_bn: Path, tmp_path: Path) -> None:
    other = tmp_path / "report.json"
    other.write_text(json.dumps({"schema_version": 1, "comparison": {"agreement": 12.5}}))
    given = {"synth": "noise", "count": 16, "refine": "none", "compare": other}
    report = calibrate(digits_bn, output=tmp_path / "out", **given).report  # type: ignore[arg-type]
    assert page_of(tmp_path / "out") == (tmp_path / "out/report.html").read_text(encoding="utf-8")
    run = report["run"]
    assert run["options"] == {"synth": "noise", "count": "16", "refine": "none"}
    assert run["command"] == f"dfq_deploy.calibrate({str(digits_bn)!r}, synth='noise', refine='none', count=16)"
    assert [row["other"] for row in report["compared"]["figures"]] == [12.5]
    assert [answer["held_out"] for answer in report["answers"]] == [True] * 2 + [False] * 14
    assert sum(report["quantized"]["bytes_by_type"].values()) < report["quantized"]["file_bytes"]
    assert {row["name"] for row in report["weights"]} == {
        row["name"] for row in report["tensors"] if row["kind"] == "weight"
    }
