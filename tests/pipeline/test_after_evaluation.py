"""The command after ``evaluate``: the file again for a fault in it, real images for few samples."""

from dataclasses import replace

import pytest

from dfq_deploy.pipeline.after_evaluation import AfterEvaluation
from dfq_deploy.verdict.evaluation import NEEDED
from dfq_deploy.verdict.finding import Finding

FED = ("--preprocess", "imagenet")
AFTER = AfterEvaluation("f.onnx", "q.onnx", "", FED, FED)
REAL = replace(AFTER, data="photos")


def bad(code: str, options: str = "") -> Finding:
    return Finding(code, "BAD", "", options=options)


@pytest.mark.parametrize(
    "code", ["scale-fault", "zero-point-fault", "weight-fault", "bias-fault", "node-fault", "another-network"]
)
def test_a_fault_in_the_file_asks_for_the_file_again(code: str) -> None:
    assert AFTER(bad(code)) == "dfq-deploy calibrate f.onnx --preprocess imagenet"
    stated = replace(REAL, fed=(), target="tensorrt")
    assert stated(bad(code)) == "dfq-deploy calibrate f.onnx --preprocess imagenet --target tensorrt"


def test_what_is_no_fault_in_the_file_is_looked_at() -> None:
    assert AFTER(bad("agreement")) == "dfq-deploy inspect f.onnx --sensitivity"
    assert REAL(Finding("agreement", "CHECK", "")) == "dfq-deploy inspect f.onnx --sensitivity"
    assert AFTER(Finding("agreement", "CHECK", "")).endswith("f.onnx q.onnx --data FOLDER --preprocess imagenet")


def test_few_samples_ask_for_more() -> None:
    few = Finding("top1-drop", "CHECK", "", figures={NEEDED: 500.0})
    assert REAL(few) == "dfq-deploy evaluate f.onnx q.onnx --data FOLDER --preprocess imagenet"


def test_labels() -> None:
    folder = "dfq-deploy evaluate f.onnx q.onnx --data photos --preprocess imagenet --labels NAMES.txt"
    assert REAL(Finding("labels", "CHECK", "")) == folder
    # No file of names changes the numbers of an array.
    assert replace(REAL, data="set.npz")(Finding("labels", "CHECK", "")) == ""
    assert REAL(Finding("labels-shifted", "CHECK", "")) == ""


def test_inputs() -> None:
    assert AFTER(bad("files-swapped")) == "dfq-deploy evaluate q.onnx f.onnx"
    assert AFTER(bad("preprocess-stated", options="--mean 0.5 --std 0.5")) == "dfq-deploy evaluate f.onnx q.onnx"
    again = "dfq-deploy calibrate f.onnx --mean 0.5 --std 0.5"
    assert REAL(bad("preprocess-stated", options="--mean 0.5 --std 0.5")) == again
    unchanged = "dfq-deploy evaluate f.onnx q.onnx --data FOLDER --preprocess imagenet"
    assert REAL(bad("preprocess-unchanged")) == unchanged
    assert REAL(Finding("samples-bits", "CHECK", "", options="--data FOLDER")) == unchanged


TYPED = (
    "dfq-deploy evaluate f.onnx q.onnx --data photos --labels 'class names.txt' --mean 0.5 --std 0.5 --latency "
    "--min-agreement 99 --target tensorrt --input-shape x:1,3,96,96 --json"
)
GIVEN = replace(REAL, labels="class names.txt", command=TYPED)
FEW = Finding("top1-drop", "CHECK", "", figures={NEEDED: 500.0})


def test_more_samples_keep_what_was_typed() -> None:
    others = TYPED.replace(" --data photos", "")
    assert GIVEN(FEW) == f"{others} --data FOLDER"
    limited = replace(GIVEN, command=f"{TYPED} --samples=32")
    assert limited(FEW) == f"{others} --data FOLDER --samples 500"
    drawn = replace(GIVEN, data="", command=others)
    assert drawn(Finding("agreement", "CHECK", "")) == f"{others} --data FOLDER"


def test_a_call_in_python_keeps_its_labels() -> None:
    again = replace(REAL, labels="names.txt")(FEW)
    assert again == "dfq-deploy evaluate f.onnx q.onnx --data FOLDER --preprocess imagenet --labels names.txt"


def test_other_commands_keep_what_was_typed() -> None:
    assert GIVEN(bad("files-swapped")) == TYPED.replace("f.onnx q.onnx", "q.onnx f.onnx")
    spelled = replace(GIVEN, command="dfq-deploy evaluate ./f.onnx out//q.onnx --json", quantized_model="out/q.onnx")
    assert spelled(bad("files-swapped")) == "dfq-deploy evaluate out//q.onnx ./f.onnx --json"
    labelled = TYPED.replace(" --data photos --labels 'class names.txt'", "") + " --data photos --labels NAMES.txt"
    assert GIVEN(Finding("labels", "CHECK", "")) == labelled
    drawn = replace(GIVEN, data="", command=TYPED.replace(" --data photos", ""))
    without = TYPED.replace(" --data photos", "").replace(" --mean 0.5 --std 0.5", "")
    assert drawn(bad("preprocess-stated", options="--mean 0.1 --std 0.1")) == without
