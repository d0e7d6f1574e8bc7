"""A killed command leaves the old or the new result, and the next run ends as if nothing had happened."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.kills import state_of
from dfq_deploy import calibrate
from dfq_deploy.verdict.noise import sensitivity

STEPS = ("synthesize", "calibrate")


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_killed_commands(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "2", "--seed", "3", "--folder", str(tmp_path)]
    command += [word for step in STEPS for word in ("--step", step)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for step in STEPS:
        (row,) = (line for line in done.stdout.splitlines() if line.startswith(f"| {step} |"))
        name, kills, *states, _, same, wrong = row.strip("| ").split(" | ")
        assert (name, same, wrong) == (step, "1", "0")
        assert sum(map(int, states)) == int(kills) >= 1


def test_a_slow_clock_changes_what_is_left_out_of_the_comparison_alone(
    digits_bn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = []
    for name, factor in (("real", 1), ("slow", 1000)):
        clock = SimpleNamespace(perf_counter=lambda factor=factor: factor * time.perf_counter())
        monkeypatch.setattr(sensitivity, "time", clock)
        calibrate(digits_bn, synth="noise", count=32, floor="none", output=tmp_path / name)
        noise.append(json.loads((tmp_path / name / "report.json").read_text())["noise"])
    assert noise[0]["samples"] > noise[1]["samples"]
    assert state_of(tmp_path / "real") == state_of(tmp_path / "slow")
