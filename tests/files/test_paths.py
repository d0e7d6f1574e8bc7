"""Paths as text."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dfq_deploy.errors import OptionError
from dfq_deploy.files.paths import as_path


@pytest.mark.parametrize("given", ["a/b", Path("a/b"), PurePosixPath("a/b")])
def test_text_and_paths(given: Any) -> None:
    assert as_path(given, "output") == Path("a/b")


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/models", "output") == tmp_path / "models"


@pytest.mark.parametrize("given", [5, None, "", b"a", True])
def test_what_is_no_path(given: Any) -> None:
    with pytest.raises(OptionError, match=r"^output: .* is not a path; give a string or a pathlib\.Path"):
        as_path(given, "output")
