"""``--metric FILE.py:FUNCTION``: reading the file and the function."""

import sys
from pathlib import Path

import click
import pytest

from dfq_deploy.cli.metric_file import MetricType, load_metric
from dfq_deploy.errors import OptionError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a metric, and one beside it that it imports."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_metric.py").write_text("FACTOR = 3\n")
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from beside_the_metric import FACTOR\n"
        "print('read')\n"
        "BOUND = 1\n"
        "@dataclass\n"
        "class Kept:\n"
        "    value: float\n"
        "def triple(outputs, labels):\n"
        "    print('called')\n"
        "    return FACTOR * Kept(outputs['y']).value\n"
    )
    return tmp_path / "mine.py"


def test_the_function_of_the_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metric = load_metric(path, "triple")
    assert metric.__name__ == "triple"
    assert metric({"y": 2.0}, None) == 6.0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "read\ncalled\n")
    assert not list(path.parent.glob("__pycache__/mine*"))


@pytest.mark.parametrize("name", ["quadruple", "BOUND"])
def test_no_such_function(path: Path, name: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_metric(path, name)
    assert str(caught.value) == f"--metric: {path} has no function '{name}'; it defines Kept, triple"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'"),
    ],
)
def test_a_file_that_cannot_be_run(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        load_metric(path, "f")
    assert str(caught.value).startswith(f"--metric: {path} cannot be run: {words}")
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--metric: .*none\.py: no such file; give FILE\.py:FUNCTION"):
        load_metric(tmp_path / "none.py", "f")


def test_the_form() -> None:
    kind = MetricType()
    assert kind.convert("C:/folder/mine.py:f1", None, None) == (Path("C:/folder/mine.py"), "f1")
    for wrong in ("mine.py", "mine.py:", "mine:f1", ":f1", "mine.txt:f1", "mine.py:f 1"):
        with pytest.raises(
            click.BadParameter, match=r"is neither map nor of the form FILE\.py:FUNCTION, e\.g\. metric\.py:f1"
        ):
            kind.convert(wrong, None, None)
