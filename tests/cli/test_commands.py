"""The command line as a user meets it: help, wrong usage, exit codes, lists."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dfq_deploy.pipeline import synthesize
from dfq_deploy.samples.samples import Samples
from tests.cli.conftest import Model, fails, run

HEAVY = {"numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "rich", "PIL"}


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, dfq_deploy.cli; sys.exit(', '.join({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_help_answers_at_once() -> None:
    command = [sys.executable, "-c", "from dfq_deploy.cli import main; main()", "--help"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert re.findall(r"^  ([a-z]+) ", done.stdout.partition("Commands:")[2], re.MULTILINE) == [
        "calibrate", "check", "evaluate", "export", "finetune", "init", "inspect", "methods", "run", "synthesize",
        "targets",
    ]  # fmt: skip
    # The processor's time, which other work on the machine does not stretch as it does the clock's. Measured: 0.06 s.
    assert min(seconds) < 0.3


def test_json_says_the_error_too(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "no.onnx", "--json")
    assert result.exit_code == 1
    message = f"{tmp_path / 'no.onnx'}: no such file; give the path of an .onnx file"
    assert json.loads(result.stdout) == {"error": message, "kind": "ModelError"}
    assert result.stderr == f"error: {message}\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "no.onnx", "--debug")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2].startswith("dfq_deploy.errors.ModelError: ")
    assert lines[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--samples: '0' is not a whole number from 1 on", ["--synth", "noise", "--samples", "0"]),
        ("--option and --iterations are of one method: name it", ["--iterations", "5"]),
        ("give --synth NAME or --data PATH, and not both", ["--synth", "noise", "--data", "x.npz"]),
        ("--preprocess: 'imagnet' is unknown; did you mean imagenet?", ["--synth", "noise", "--preprocess", "imagnet"]),
        ("--mean and --std must be given together", ["--synth", "noise", "--mean", "0.5"]),
        ("'0.5;0.5' is not a list of numbers", ["--synth", "noise", "--mean", "0.5;0.5", "--std", "1"]),
        ("--mean and --std: preprocess: 2 mean(s) and 1 std(s)", ["--synth", "noise", "--mean", "0,0", "--std", "1"]),
        (
            "--preprocess and --mean/--std cannot be combined",
            ["--synth", "noise", "--preprocess", "raw", "--mean", "0", "--std", "1"],
        ),
        (
            "the method 'noise' has no option 'depth'; it has: distribution, lowpass",
            ["--synth", "noise", "--option", "depth=1"],
        ),
        ("the method 'noise' has no option 'iterations'", ["--synth", "noise", "--iterations", "5"]),
        ("--option 'flip' is not of the form KEY=VALUE", ["--synth", "deepinversion", "--option", "flip"]),
        ("--option flip: 'maybe' is not true or false", ["--synth", "deepinversion", "--option", "flip=maybe"]),
        ("--option l2: 'low' is not a number", ["--synth", "deepinversion", "--option", "l2=low"]),
        ("--colour", ["--synth", "noise", "--colour"]),
        ("unknown target 'abacus'; installed: cpu", ["--synth", "noise", "--target", "abacus"]),
        ("target 'coreml' is refused: ", ["--synth", "noise", "--target", "coreml"]),
        ("no synthesizer 'dreams'; installed: adversarial", ["--synth", "dreams"]),
        (
            "no calibrator 'guess'; installed: entropy, minmax, mse, percentile",
            ["--synth", "noise", "--calibrator", "guess"],
        ),
        (
            "no refinement 'polish'; installed: equalize, channels, closed-form, reconstruct, bias",
            ["--synth", "noise", "--refine", "polish"],
        ),
        (
            "noise: distribution 'flat' is neither uniform nor gaussian",
            ["--synth", "noise", "--option", "distribution=flat"],
        ),
    ],
)
def test_wrong_usage_ends_with_2(here: Path, net: Path, words: str, options: list[str]) -> None:
    fails(2, words, "calibrate", net.name, *options)
    assert [path.name for path in here.iterdir()] == [net.name]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("nowhere: no such file or folder", ["--data", "nowhere"]),
        ("none.onnx: no such file", ["--synth", "deepinversion", "--teacher", "none.onnx"]),
        ("--teacher does not fit the model", ["--synth", "deepinversion", "--teacher", "other.onnx"]),
        ("net.onnx/out", ["--synth", "noise", "--samples", "8", "-o", "net.onnx/out"]),
        ("preprocess has 2 channels and the model's", ["--synth", "noise", "--mean", "0,0", "--std", "1,1"]),
        ("device 'cuda:9' is not available here", ["--synth", "noise", "--device", "cuda:9"]),
    ],
)
def test_what_is_not_there_ends_with_1(here: Path, net: Path, tiny: Model, words: str, options: list[str]) -> None:
    onnx.save(tiny(classes=7), "other.onnx")
    fails(1, words, "calibrate", net.name, *options)
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "other.onnx"]


@pytest.mark.parametrize("command", [["synthesize"], ["calibrate", "--synth", "noise"]])
def test_an_unwritable_place_is_known_before_the_work(
    net: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(synthesize, "synthesize", lambda *_, **__: pytest.fail("it started to work"))
    fails(1, f"cannot write {net}/out", *command, net, "-o", net / "out")


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (KeyboardInterrupt(), "interrupted: nothing was written"),
        (MemoryError(), "error: not enough memory; use fewer samples (--samples)"),
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "error: not enough memory"),
        (
            OSError(28, "No space left on device"),
            "error: cannot write old.npz: No space left on device; choose another",
        ),
        (ZeroDivisionError("by zero"), "error: unexpected ZeroDivisionError: by zero; run again with --debug"),
    ],
)
def test_every_end_is_one_line(
    here: Path, net: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException, words: str
) -> None:
    def fail(*_: object, **__: object) -> Samples:
        raise problem

    monkeypatch.setattr(synthesize, "synthesize", fail)
    (here / "old.npz").write_text("an earlier result")
    fails(1, words, "synthesize", net.name, "-o", "old.npz")
    assert (here / "old.npz").read_text() == "an earlier result"
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "old.npz"]


def test_targets() -> None:
    lines = run("targets").stdout.splitlines()
    assert lines[0].split() == ["target", "activations", "weights", "Q", "and", "DQ", "on", "shapes", "runtime"]
    rows = {line.split()[0]: " ".join(line.split()) for line in lines[1:] if line}
    assert rows["cpu"] == "cpu (default) u8 s8 per channel kernel in/outputs ONNX Runtime on x86 and Arm CPUs"
    assert rows["nnapi"] == "nnapi u8 s8 per channel kernel in/outputs static ONNX Runtime with NNAPI, Android 10+"
    assert rows["tensorrt"].startswith("tensorrt s8 s8 per channel layer inputs TensorRT")
    assert any(line.startswith("  coreml  ONNX Runtime's Core ML provider has no QuantizeLinear") for line in lines)
    document = json.loads(run("targets", "--json").stdout)
    names = ["cpu", "web", "openvino", "tensorrt", "xnnpack", "litert", "nnapi", "nnapi-per-tensor", "qnn"]
    names += ["rknn", "rknn-rv1106"]
    assert [target["name"] for target in document["targets"]] == names
    assert document["default"] == "cpu"
    assert all(target["problem"] == "" for target in document["targets"])


def test_methods() -> None:
    text = run("methods", "-v").stdout
    for words in ("deepinversion     descent on the pixels", "distribution=uniform", "--calibrator mse --refine bias"):
        assert words in text
    document = json.loads(run("methods", "--json").stdout)
    assert re.search(r"\n  mse .*  \(default\)\n", text)
    assert document["defaults"]["synth"] == "auto"
    assert document["defaults"]["synthesize"] == "deepinversion"
    assert [entry["name"] for entry in document["calibrators"]] == [
        *("entropy", "minmax", "mse", "percentile", "tensorrt-entropy", "tensorrt-minmax"),
    ]
    assert all(entry["problem"] == "" for kind in ("synthesizers", "exporters") for entry in document[kind])
