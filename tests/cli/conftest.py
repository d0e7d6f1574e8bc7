"""What tests of the command line share."""

import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli.main import main

Model = Callable[..., onnx.ModelProto]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(status: int, words: str, *arguments: object) -> None:
    """The command ends with ``status`` and says ``words`` in the only line."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if not re.match(r"[a-z ]+: done in ", line)]
    assert line.startswith(("error: ", "interrupted: "))


@pytest.fixture
def net(tmp_path: Path, tiny: Model) -> Path:
    """A tiny network on disk."""
    onnx.save(tiny(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, empty but for the network."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
