"""What inspect prints in a narrow terminal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from dfq_deploy.cli.views import tables
from dfq_deploy.cli.views.inspection import show_inspection
from dfq_deploy.inspection.advice import Advice
from dfq_deploy.inspection.inspect import inspect

Model = Callable[..., onnx.ModelProto]


def test_lines_to_be_copied_are_whole(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(tiny(normalized=False), tmp_path / "net.onnx")
    monkeypatch.setattr(tables, "PIPE_WIDTH", 80)
    copied = tuple(f"--input-shape {name}:1,3,224,224 {'--input-range x:0,1 ' * 5}--seed 1" for name in "ab")
    found = replace(inspect(tmp_path / "net.onnx"), advice=(Advice("something is wrong", "add", copied),))
    show_inspection(found, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if "--input-shape" in line] == list(copied)
    assert all(len(line) <= 80 for line in lines if "--input-shape" not in line)


def test_a_note_calls_for_nothing(tiny: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(tiny(size="side"), tmp_path / "net.onnx")
    show_inspection(inspect(tmp_path / "net.onnx", input_shapes={"image": (1, 3, 8, 8)}), verbose=False)
    text = " ".join(capsys.readouterr().out.split())
    assert "note: input 'image' " in text
    assert "keeps its open sizes, unless its target takes static shapes only (--fix-shapes closes them)" in text
    assert "way out: nothing" not in text
    assert "No problems found." in text
