"""A killed command leaves the old or the new result, and the next run ends as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_a_killed_synthesis(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "1", "--seed", "3", "--step", "synthesize"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=checkout, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| synthesize |"))
    name, kills, *states, _, same, wrong = row.strip("| ").split(" | ")
    assert (name, same, wrong) == ("synthesize", "1", "0")
    assert sum(map(int, states)) == int(kills) >= 1
