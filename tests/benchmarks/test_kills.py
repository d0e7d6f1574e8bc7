"""A killed command leaves the old or the new result, and the next run ends as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

import pytest

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
