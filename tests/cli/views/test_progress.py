"""Progress on a terminal, in a log, and switched off."""

import io
import re

import pytest
from rich.console import Console

from dfq_deploy.cli.shell import Shell
from dfq_deploy.cli.views import progress as shown
from dfq_deploy.progress import SILENT, Progress


def shell(*, quiet: bool = False) -> Shell:
    return Shell(seed=0, device="cpu", as_json=False, verbose=False, quiet=quiet, debug=False)


def work(progress: Progress) -> None:
    progress.start("first", 2)
    progress.advance(2, feature_distance=0.12345, loss=1234.5)
    progress.start("second", 3)
    progress.advance()


def interrupted() -> None:
    with shown.display(shell()) as progress:
        work(progress)
        raise KeyboardInterrupt


def test_a_log_gets_one_line_for_each_task(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.display(shell()) as progress:
        work(progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert re.fullmatch(r"first: 2 in 0\.0 s  feature distance 0\.123  loss 1\.23e\+03", first)
    assert re.fullmatch(r"second: 1 in 0\.0 s", second)


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.display(shell(quiet=True)) as progress:
        assert progress is SILENT
        work(progress)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(shown, "Console", lambda **_: terminal)
    with shown.display(shell()) as progress:
        work(progress)
    last = screen.getvalue().rsplit("\x1b[1A", maxsplit=1)[-1]
    assert re.search(r"first +━+ 2/2 0:00:00 .*feature distance 0\.123  loss 1\.23e\+03", last)
    # What ends early is shown as complete: it will not go on.
    assert re.search(r"second +━+ 1/1", last)


def test_a_failure_leaves_the_bar_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(shown, "Console", lambda **_: terminal)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "1/3" in screen.getvalue().rsplit("\x1b[1A", maxsplit=1)[-1]
    # The cursor is given back.
    assert "\x1b[?25h" in screen.getvalue()
