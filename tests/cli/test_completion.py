"""What the shell completes: through click's own completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from dfq_deploy.cli.main import main


def completed(*words: str) -> list[str]:
    """What is offered for the last word."""
    shell = ShellComplete(main, {}, "dfq-deploy", "_DFQ_DEPLOY_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def kinds(*words: str) -> set[str]:
    """What kind of thing is offered: ``plain`` words, or what the shell itself lists."""
    shell = ShellComplete(main, {}, "dfq-deploy", "_DFQ_DEPLOY_COMPLETE")
    return {item.type for item in shell.get_completions(list(words[:-1]), words[-1])}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cal"], ["calibrate"]),
        (["calibrate", "m.onnx", "--target", "nnapi"], ["nnapi", "nnapi-per-tensor"]),
        (["check", "m.onnx", "--target", "tens"], ["tensorrt"]),
        (["calibrate", "m.onnx", "--synth", "p"], ["photographs", "procedural", "psaq"]),
        (["synthesize", "m.onnx", "--method", "deep"], ["deepinversion"]),
        (["calibrate", "m.onnx", "--calibrator", "m"], ["minmax", "mse"]),
        (["calibrate", "m.onnx", "--refine", "b"], ["bias"]),
        (["calibrate", "m.onnx", "--preprocess", "i"], ["imagenet"]),
        (["calibrate", "m.onnx", "--task", ""], ["classify", "detect", "segment", "regress", "embed"]),
        (["export", "m.onnx", "--to", "ort"], ["ort", "ort-runtime"]),
        (["calibrate", "m.onnx", "--calib"], ["--calibrator"]),
        (["calibrate", "m.onnx", "--synth", "procedural", "--option", "s"], ["sharpest=", "softest="]),
        (["synthesize", "m.onnx", "--method", "procedural", "--option", "l"], ["lowpass="]),
        (["export", "m.onnx", "--to", "tensorrt", "--option", "compute"], ["compute_capability="]),
        (["calibrate", "m.onnx", "--option", "s"], []),
    ],
)
def test_names_are_completed(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "mod"],
        ["evaluate", "a.onnx", "b"],
        ["calibrate", "m.onnx", "--data", "ph"],
        ["calibrate", "m.onnx", "--teacher", "t"],
        ["calibrate", "m.onnx", "-o", ""],
        ["evaluate", "a.onnx", "b.onnx", "--metric", "m"],
    ],
)
def test_files_are_left_to_the_shell(words: list[str]) -> None:
    assert kinds(*words) == {"file"}


def test_the_old_name_of_an_option_is_not_offered() -> None:
    assert completed("calibrate", "m.onnx", "--meth") == []


def test_bash_gets_words_and_no_error(tmp_path: Path) -> None:
    environment = os.environ | {
        "_DFQ_DEPLOY_COMPLETE": "bash_complete", "COMP_WORDS": "dfq-deploy calibrate m.onnx --target tens",
        "COMP_CWORD": "4",
    }  # fmt: skip
    command = [sys.executable, "-c", "from dfq_deploy.cli import main; main(prog_name='dfq-deploy')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("plain,tensorrt\n", "")
