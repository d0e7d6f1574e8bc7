"""Places that cannot be written, and signals, as a user meets them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from dfq_deploy.cli import main
from tests.conftest import TinyModel

COMMAND = [sys.executable, "-m", "dfq_deploy"]


@pytest.fixture
def model(tiny: TinyModel, tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(tiny(), path)
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def test_a_model_is_not_overwritten_by_samples(model: Path) -> None:
    before = model.read_bytes()
    status, said = run("synthesize", model, "-o", model, "--method", "noise")
    assert (status, model.read_bytes()) == (1, before)
    assert "it is read by this command" in said


def test_samples_in_the_output_folder_are_not_cut(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    samples = tmp_path / "out/samples.npz"
    np.savez(samples, images=np.zeros((4, 3, 8, 8), np.float32))
    before = samples.read_bytes()
    status, said = run("calibrate", model, "--data", samples, "--samples", "2", "-o", tmp_path / "out")
    assert (status, samples.read_bytes()) == (1, before)
    assert "it is read by this command" in said


def test_a_foreign_unfinished_folder_is_left_alone(model: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "out.unfinished"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    status, said = run("calibrate", model, "--synth", "noise", "-o", tmp_path / "out")
    assert status == 1
    assert "it holds something else" in said
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_files_of_an_earlier_run_with_other_options_go(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("calibrate", model, "--synth", "noise", "--samples", "8", "--floor", "none", "-o", out)
    run(*arguments, "--integer-io", "--preprocess", "zero-one")
    (out / "notes.txt").write_text("mine")
    assert (out / "model.integer.onnx").is_file()
    run(*arguments)
    assert (out / "model.qdq.onnx").is_file()
    assert (out / "notes.txt").is_file()
    assert not (out / "model.integer.onnx").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_terminating_ends_as_ctrl_c_does(model: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "synthesize", str(model), "--method", "deepinversion", "--samples", "100000", "-o", "s.npz"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not any(tmp_path.glob("s.npz.unfinished/facts.json")):
            assert process.poll() is None, process.stderr and process.stderr.read()
        os.kill(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in said
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of Unix")
def test_stdout_that_is_closed_or_full() -> None:
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m dfq_deploy targets >&-"], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "targets"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_path_is_wrong_usage(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = run("calibrate", model, "--samples", "8", "-o", "")
    assert status == 2
    assert "the path is empty; give a name" in said
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
