"""What becomes of the output: closed, full, in another encoding; and of an interrupt before a command runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "dfq_deploy"]

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    """Run ``line`` in a shell, in which ``$D`` is the command."""
    environment = {**os.environ, "D": " ".join(COMMAND)}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, env=environment)


@needs_full
@pytest.mark.parametrize("words", ["targets", "targets --json", "--help", "check --help", "--version"])
def test_a_full_output_is_said_once(words: str) -> None:
    run = shell(f"$D {words} > /dev/full")
    assert (run.returncode, run.stderr) == (1, "error: the output cannot be written: No space left on device\n")


@needs_full
@pytest.mark.parametrize("words", ["inspect nowhere.onnx --json", "check --json"])
def test_an_error_that_cannot_be_printed_as_json_is_on_stderr(words: str) -> None:
    run = shell(f"$D {words} > /dev/full")
    assert run.returncode == 1
    first, second = run.stderr.splitlines()
    assert first.startswith("error: ")
    assert second == "error: the output cannot be written: No space left on device"


def test_closed_streams_are_no_error() -> None:
    for line in ("$D targets >&-", "$D --help >&-", "$D targets >&- 2>&-"):
        run = shell(line)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="a path is any bytes on Linux alone")
def test_a_path_that_is_no_utf8_can_be_printed(digits_folded: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "model-") + b"\xff.onnx"
    Path(os.fsdecode(path)).symlink_to(digits_folded)
    run = subprocess.run([*COMMAND, "inspect", path, "--json"], capture_output=True, check=False)
    assert json.loads(run.stdout)["name"] == "model-\udcff.onnx", run.stderr
    missing = subprocess.run([*COMMAND, "inspect", b"\x1b[2J\xff.onnx"], capture_output=True, check=False)
    assert missing.stderr.startswith(rb"error: \x1b[2J\udcff.onnx: no such file")


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path: Path) -> None:
    """A module in the way of the imports waits for it."""
    (tmp_path / "click.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, "targets"], stdout=pipe, stderr=pipe, text=True, env=environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert (run.returncode, said) == (1, "interrupted: nothing was written\n")


LATE = """
import signal, sys
from dfq_deploy.__main__ import run

class Late:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

late = [Late()]

def watch(event, details):
    if event == "open" and ".unfinished" in str(details[0]):
        late.clear()

sys.addaudithook(watch)
run()
"""


def test_an_interrupt_in_a_finalizer_ends_the_command(digits_bn: Path, tmp_path: Path) -> None:
    """Python drops what a finalizer raises; the command would go on."""
    arguments = ["synthesize", str(digits_bn), "--samples", "100000", "-o", "s.npz"]
    command = [sys.executable, "-c", LATE, *arguments]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("interrupted: ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interrupt_after_the_end_of_a_command_is_not_heard() -> None:
    late = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGINT); "
    command = [sys.executable, "-c", f"{late} from dfq_deploy.__main__ import run; run()", "targets"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
