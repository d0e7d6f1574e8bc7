"""``calibrate`` as a user meets it: its files, its summary, what an interrupt leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.cli.conftest import Model, fails, run

PATIENCE = 300.0
"""Seconds that a child may take on a machine with much other work; it takes 3 on an idle one."""

FILES = ["model.qdq.onnx", "encodings.json", "samples.npz", "samples.png", "report.json", "report.html"]


def test_calibrate_writes_its_files_and_a_summary(here: Path, net: Path) -> None:
    result = run("calibrate", net.name, "--synth", "procedural", "--preprocess", "zero-one", "--samples", "24")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "net.onnx in INT8  ONNX Runtime on x86 and Arm CPUs",
        "  input       3 x 8 x 8",
        "  preprocess  zero-one: mean 0, std 1",
        "  samples     24 by procedural, seed 0",
    ]
    assert [line.split()[0] for line in lines[4:8]] == ["statistics", "classes", "confidence", "diversity"]
    assert lines[8] == "  calibrated  ranges by mse, refined by bias"
    compared = lines.index("against float  95 % interval of the agreement, signal to noise of the worst output")
    assert [line.split()[0] for line in lines[compared + 1 : compared + 5]] == [
        "procedural", "procedural", "photographs", "real",
    ]  # fmt: skip
    assert lines[compared + 1].endswith("on 3 inputs held out of the samples")
    wrote = lines.index("wrote  net-cpu/")
    assert [line.split()[0] for line in lines[wrote + 1 : wrote + 1 + len(FILES)]] == FILES
    assert lines[wrote + 1 + len(FILES)] == ""
    (last,) = lines[wrote + 2 + len(FILES) :]
    assert last.split()[0] in ("OK:", "CHECK:")
    assert sorted(path.name for path in (here / "net-cpu").iterdir()) == sorted(FILES)
    session = ort.InferenceSession(here / "net-cpu/model.qdq.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((2, 3, 8, 8), np.float32)})[0].shape == (2, 4)


def test_calibrate_json_takes_samples_again(here: Path, net: Path) -> None:
    run("synthesize", net.name, "--method", "procedural", "--samples", "16", "-o", "s.npz")
    arguments = "--data s.npz --samples 8 --calibrator minmax --refine none -o out --json -q"
    result = run("calibrate", net.name, *arguments.split())
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["samples"]["count"] == 8
    assert document["calibration"] == {
        "method": "minmax", "bits": "w8a8", "refine": [], "headroom": 1.2, "known_ranges": 0,
    }  # fmt: skip
    assert sorted(document["paths"]) == sorted(f"out/{name}" for name in FILES)
    assert json.loads((here / "out/report.json").read_text())["samples"] == document["samples"]


def test_calibrate_without_normalization_says_what_it_did_instead(here: Path, tiny: Model) -> None:
    onnx.save(tiny(normalized=False), "folded.onnx")
    result = run("calibrate", "folded.onnx", "--synth", "deepinversion", "--samples", "8", "-q", "--json")
    document = json.loads(result.stdout)
    assert document["samples"]["method"] == "procedural"
    (warning,) = document["warnings"]
    assert "--teacher" in warning
    assert (here / "folded-cpu/model.qdq.onnx").is_file()


def test_an_earlier_result_outlives_a_failed_one(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("calibrate", net.name, "--synth", "noise", "--samples", "8", "-o", "out")
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfq_deploy.report.writing.write_report", interrupt)
    arguments = ["--synth", "noise", "--samples", "9", "--seed", "1", "-o", "out", "-q"]
    fails(1, "interrupted: nothing was written", "calibrate", net.name, *arguments)
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == before
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "out"]


def test_an_interrupt_after_the_result_says_where_it_is(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfq_deploy.cli.views.results.show_calibration", interrupt)
    arguments = ["--synth", "noise", "--samples", "8", "-o", "out"]
    fails(1, "interrupted: out was written before", "calibrate", net.name, *arguments)
    assert (here / "out/model.qdq.onnx").is_file()


def test_a_real_interrupt_leaves_nothing(here: Path, net: Path) -> None:
    code = "from dfq_deploy.cli import main; main()"
    command = [sys.executable, "-c", code, "synthesize", net.name, "--iterations", "1000000", "-o", "out/s.npz"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while not (here / "out").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output == ""
    assert errors.splitlines()[-1] == "interrupted: nothing was written"
    assert "Traceback" not in errors
    assert list((here / "out").iterdir()) == []


def test_a_mean_of_0_to_255_is_refused_with_what_to_type(net: Path) -> None:
    result = run("calibrate", net.name, "--synth", "procedural", "--mean", "123,117,104", "--std", "58,57,57")
    assert result.exit_code == 2
    assert "divide by 255: --mean 0.4824,0.4588,0.4078 --std 0.2275,0.2235,0.2235" in result.stderr
