"""Progress on a terminal, in a log, and switched off."""

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from dfq_deploy.cli.shell import Shell
from dfq_deploy.cli.views import progress as shown
from dfq_deploy.progress import SILENT, Progress

Screen = Callable[[int], io.StringIO]


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


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Makes a terminal of a width, whose text it returns."""

    def terminal(width: int) -> io.StringIO:
        text = io.StringIO()
        console = Console(file=text, force_terminal=True, width=width, color_system=None)
        monkeypatch.setattr(shown, "Console", lambda **_: console)
        return text

    return terminal


def last_rows(text: io.StringIO) -> list[str]:
    """The rows as they stand at the end."""
    rows = re.split(r"\x1b\[2K", text.getvalue())[-1]
    return [row.rstrip() for row in re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", rows).replace("\r", "").splitlines() if row]


def test_a_log_gets_one_line_for_each_task(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.display(shell()) as progress:
        work(progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert re.fullmatch(r"first: done in 0\.0 s  feature distance 0\.123  loss 1\.23e\+03", first)
    assert re.fullmatch(r"second: done in 0\.0 s", second)


def test_a_log_gets_a_line_in_between(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "EVERY", 0.05)
    monkeypatch.setattr(shown, "SETTLED", 0.0)
    with shown.display(shell()) as progress:
        time.sleep(0.12)
        progress.start("slow \x1b[31m", 4)
        progress.advance(1, loss=3.0)
        time.sleep(0.01)
        progress.advance(1, loss=2.0)
        time.sleep(0.12)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"still working, 0\.\d s so far", lines[0])
    assert any(re.fullmatch(r"slow \\x1b\[31m: 50 % in 0\.\d s, about 0\.\d s left  loss 2", line) for line in lines)
    time.sleep(0.12)
    assert capsys.readouterr().err == ""


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.display(shell(quiet=True)) as progress:
        assert progress is SILENT
        work(progress)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (40, r"first  ━{8,} 100 %"),
        (60, r"first  ━{8,} 100 % +0\.0 s"),
        (80, r"first  ━{24} 100 % +0\.0 s"),
        (120, r"first  ━{24} 100 % +0\.0 s +feature distance 0\.123  loss 1\.23e\+03"),
    ],
)
def test_a_narrow_terminal_loses_the_figures_before_the_bar(screen: Screen, width: int, first: str) -> None:
    text = screen(width)
    with shown.display(shell()) as progress:
        work(progress)
    rows = last_rows(text)
    assert re.fullmatch(first, rows[0])
    # What ends early is shown as complete: it will not go on.
    assert re.match(r"second ━+ 100 %", rows[1])
    assert max(map(len, rows)) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_long_name_leaves_room_for_the_bar(screen: Screen, width: int) -> None:
    text = screen(width)
    with shown.display(shell()) as progress:
        progress.start("a task with a name that is longer than the terminal is wide, at least where it is narrow", 4)
        progress.advance(2, loss=1.0)
    (row,) = last_rows(text)
    assert re.match(r"a task .*… ━{8,} 100 %", row)
    assert len(row) <= width


def test_the_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pace = shown._Pace(1000, started=0.0)
    assert pace.left is None
    pace.advance(400)  # finished by the run that is resumed
    for _ in range(30):
        now[0] += 2.0
        pace.advance(10)
    # 300 steps in 60 s, and 300 are left.
    assert pace.left == pytest.approx(60.0, rel=0.05)
    assert pace.percent == "70 %"


def test_a_failure_leaves_the_bar_where_it_was(screen: Screen) -> None:
    text = screen(120)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "33 %" in last_rows(text)[1]
    # The cursor is given back.
    assert "\x1b[?25h" in text.getvalue()
