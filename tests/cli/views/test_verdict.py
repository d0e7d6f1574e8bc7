"""What the summary lists of a verdict."""

import io

import pytest
from rich.console import Console

from dfq_deploy.cli.views.verdict import show_findings


@pytest.mark.parametrize("code", ["faster-than-float", "as-fast-as-float"])
def test_the_speed_is_listed_where_it_is_no_fault_too(code: str) -> None:
    finding = {"code": code, "level": "OK", "message": "about as fast as float: 0.09 ms", "remedy": ""}
    other = {"code": "samples-few", "level": "OK", "message": "8 samples", "remedy": ""}
    console = Console(file=io.StringIO(), width=100)
    console.print(show_findings({"status": "OK", "findings": [finding, other]}))
    assert isinstance(console.file, io.StringIO)
    assert "about as fast as float: 0.09 ms" in console.file.getvalue()
    assert "8 samples" not in console.file.getvalue()
