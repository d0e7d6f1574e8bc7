"""Interrupted synthesis: what is kept, what is refused, and that nothing of it shows in the samples."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from dfq_deploy import synthesize
from dfq_deploy.cli.main import main
from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files.sealed import read_state
from dfq_deploy.samples import contact_sheet
from dfq_deploy.synthesis.inversion import journal
from dfq_deploy.synthesis.inversion.journal import FolderJournal
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.synthesis.methods.gdfq import Gdfq
from dfq_deploy.synthesis.methods.lis import Lis

Model = Callable[..., onnx.ModelProto]

COMMAND = ("--samples=12", "--iterations=20", "--option=batch=4", "--mean=0.305", "--std=0.319", "--quiet")

INTERRUPTED = """
import os, signal, sys
from dfq_deploy.cli import main
from dfq_deploy.synthesis.inversion import journal
journal.EVERY = 0.0
save_state, calls = journal.FolderJournal.save_state, []
def interrupting(self, state):
    save_state(self, state)
    calls.append(state["run"]["step"])
    if len(calls) == 25:
        os.kill(os.getpid(), signal.SIGINT)
journal.FolderJournal.save_state = interrupting
sys.argv = ["dfq-deploy", *sys.argv[1:]]
main()
"""


def interrupted(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which sends itself the signal of Ctrl-C after 25 states."""
    # As many threads as the tests have: sums depend on it.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERRUPTED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_killed_run_goes_on_to_the_same_file(digits_bn: Path, tmp_path: Path) -> None:
    whole, part, unfinished = (tmp_path / name for name in ("whole.npz", "part.npz", "part.npz.unfinished"))
    command = ["synthesize", str(digits_bn), *COMMAND]
    assert CliRunner().invoke(main, [*command, "-o", str(whole)]).exit_code == 0
    assert list(tmp_path.glob("*.unfinished")) == []
    killed = interrupted(*command, "-o", str(part))
    assert killed.returncode == 1
    assert killed.stderr == f"interrupted: run the same command with --resume to continue from {unfinished}\n"
    # 19 states of the first batch (its last iteration finishes it), then the sixth iteration of the second.
    assert sorted(file.name for file in unfinished.iterdir()) == ["batch-00000.pt", "facts.json", "state.pt"]
    assert read_state(unfinished / "state.pt")["run"]["step"] == 6
    assert not part.exists()
    other = CliRunner().invoke(main, [*command, "-o", str(part), "--resume", "--seed", "1"])
    said = "--seed was 0 and is 1 now; use the same value as before, or leave --resume out to start anew"
    assert other.stderr == f"error: --resume: {said}\n"
    assert CliRunner().invoke(main, [*command, "-o", str(part), "--resume"]).exit_code == 0
    assert part.read_bytes() == whole.read_bytes()
    assert not unfinished.exists()


def test_an_interrupt_while_the_picture_is_drawn(
    digits_bn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupting(*_: Any) -> bool:
        raise KeyboardInterrupt

    command = ["synthesize", str(digits_bn), *COMMAND, "-o", str(tmp_path / "s.npz")]
    with monkeypatch.context() as patch:
        patch.setattr(contact_sheet, "contact_sheet", interrupting)
        killed = CliRunner().invoke(main, command)
    said = f"interrupted: run the same command with --resume to continue from {tmp_path / 's.npz.unfinished'}\n"
    assert (killed.exit_code, killed.stderr) == (1, said)
    assert CliRunner().invoke(main, [*command, "--resume"]).exit_code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.npz", "s.png"]


def test_a_failure_before_anything_is_done_leaves_nothing(digits_bn: Path, tmp_path: Path) -> None:
    command = ["synthesize", str(digits_bn), *COMMAND, "--option", "feature_weight=nan", "-o", str(tmp_path / "s.npz")]
    failed = CliRunner().invoke(main, command)
    assert "the images became NaN" in failed.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (
            "--resume belongs to synthesis, and --data takes samples as they are; leave one out",
            ["--data", "x.npz", "--resume"],
        ),
        ("give one of them", ["--synth", "deepinversion", "--iterations", "5", "--tolerance", "0.1"]),
    ],
)
def test_what_does_not_go_together(digits_bn: Path, words: str, arguments: list[str]) -> None:
    refused = CliRunner().invoke(main, ["calibrate", str(digits_bn), *arguments])
    assert refused.exit_code == 2
    assert words in " ".join(refused.stderr.split())


class InterruptError(Exception):
    """Takes the place of a signal."""


@pytest.mark.parametrize(
    ("method", "stops"),
    [
        (DeepInversion(iterations=6, batch=2, competition=0.2), (1, 8)),
        (Lis(iterations=5, batch=2, together=1), (2, 7)),
        (Gdfq(iterations=50, warmup=20, batch=4, channels=8), (1, 2)),
    ],
    ids=["deepinversion", "lis", "gdfq"],
)
def test_methods_go_on_bit_for_bit(
    digits_bn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any, stops: tuple[int, ...]
) -> None:
    monkeypatch.setattr(journal, "EVERY", 0.0)
    expected = synthesize(digits_bn, synth=method, count=6)
    write = FolderJournal.save_state
    for index, stop in enumerate(stops):
        left = [stop - (stops[index - 1] if index else 0)]

        def interrupting(self: FolderJournal, state: Any, left: list[int] = left) -> None:
            write(self, state)
            left[0] -= 1
            if not left[0]:
                raise InterruptError

        monkeypatch.setattr(FolderJournal, "save_state", interrupting)
        with pytest.raises(InterruptError):
            synthesize(digits_bn, synth=method, count=6, unfinished=tmp_path / "j", resume=index > 0)
    monkeypatch.setattr(FolderJournal, "save_state", write)
    found = synthesize(digits_bn, synth=method, count=6, unfinished=tmp_path / "j", resume=True)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.figures == pytest.approx(expected.figures)


def test_a_run_that_is_killed_between_a_batch_and_its_state(
    digits_bn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the finished batch is still there, and is not taken for that of the next one."""
    monkeypatch.setattr(journal, "EVERY", 0.0)
    method = DeepInversion(iterations=6, batch=2)
    expected = synthesize(digits_bn, synth=method, count=6)

    def interrupting(_: FolderJournal) -> None:
        raise InterruptError

    with monkeypatch.context() as patch:
        patch.setattr(FolderJournal, "_forget_state", interrupting)
        with pytest.raises(InterruptError):
            synthesize(digits_bn, synth=method, count=6, unfinished=tmp_path / "j")
    assert {"batch-00000.pt", "state.pt"} <= {file.name for file in (tmp_path / "j").iterdir()}
    found = synthesize(digits_bn, synth=method, count=6, unfinished=tmp_path / "j", resume=True)
    np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("--option iterations was 2 and is 3 now", {"synth": DeepInversion(iterations=3, batch=2)}),
        ("--samples was 4 and is 6 now", {"count": 6}),
        ("--target was cpu and is qnn now", {"target": "qnn"}),
        ("--bits was w8a8 and is w4a4 now", {"bits": "w4a4"}),
        ("--tolerance was None and is 0.01 now", {"tolerance": 0.01}),
    ],
)
def test_other_options_are_refused_by_name(digits_bn: Path, tmp_path: Path, words: str, change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"synth": DeepInversion(iterations=2, batch=2), "count": 4, "unfinished": tmp_path / "j"}
    synthesize(digits_bn, **given)
    with pytest.raises(SamplesError, match=f"^--resume: {words}; use the same value as before, or leave --resume out"):
        synthesize(digits_bn, **(given | change), resume=True)


def test_another_model_is_refused(digits_bn: Path, tiny: Model, tmp_path: Path) -> None:
    given: dict[str, Any] = {"synth": DeepInversion(iterations=2), "count": 4, "unfinished": tmp_path / "j"}
    synthesize(tiny(), **given)
    with pytest.raises(SamplesError, match=r"^--resume: the model or a teacher \(its fingerprint\) was \w+ and is \w+"):
        synthesize(tiny(seed=1), **given, resume=True)


def test_nothing_to_go_on_from(digits_bn: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SamplesError, match=r"^--resume: there is nothing to resume in .*; leave --resume out to start anew$"
    ):
        synthesize(digits_bn, synth="noise", count=2, unfinished=tmp_path / "j", resume=True)


def test_a_fresh_journal_forgets(tmp_path: Path) -> None:
    first = FolderJournal(tmp_path / "j", {"a": 1})
    first.save_batch(0, {"images": np.arange(3, dtype=np.float32), "figures": {"x": 0.5}})
    first.save_state({"step": torch.tensor(3)})
    again = FolderJournal(tmp_path / "j", {"a": 1}, resume=True)
    kept = again.load_batch(0)
    assert kept is not None
    assert (kept["images"].tolist(), kept["figures"]) == ([0, 1, 2], {"x": 0.5})
    assert again.load_state() == {"step": torch.tensor(3)}
    assert again.load_batch(1) is None
    assert FolderJournal(tmp_path / "j", {"a": 1}).load_batch(0) is None


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    FolderJournal(tmp_path / "j", {})
    (tmp_path / "j/state.pt").write_bytes(b"half")
    with pytest.raises(
        SamplesError, match=r"^--resume: .*state\.pt cannot be read \(.*\); leave --resume out to start"
    ):
        FolderJournal(tmp_path / "j", {}, resume=True).load_state()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^cannot write .*file/j: Not a directory; choose another place with -o$"):
        FolderJournal(tmp_path / "file/j", {})
