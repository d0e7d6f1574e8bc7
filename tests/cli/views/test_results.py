"""The summary of a calibration: which method made the samples, and which one was asked for."""

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from dfq_deploy.cli.main import main
from dfq_deploy.cli.views.results import _samples_text
from tests.conftest import ModelOf


@pytest.mark.parametrize(
    ("asked", "method", "said"),
    [
        ("deepinversion", "procedural", "16 by procedural instead of deepinversion (see the warning), seed 0"),
        ("deepinversion", "deepinversion", "16 by deepinversion, seed 0"),
        ("<DeepInversion>", "deepinversion", "16 by deepinversion, seed 0"),
        ("procedural", "procedural+photographs", "16 by procedural+photographs, seed 0"),
        ("auto", "anchored", "16 by anchored, seed 0"),
    ],
)
def test_the_method_that_was_asked_for_is_named_where_it_is_another(asked: str, method: str, said: str) -> None:
    assert _samples_text(16, {"method": method, "seed": 0}, {"options": {"synth": asked}}) == said


def test_a_result_in_which_nothing_is_quantized_is_headed_so(model_of: ModelOf, tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    onnx.save(model_of("float[n,3,8,8] x", "float[n,3,8,8] y", "y = Relu(x)", {}), path)
    result = CliRunner().invoke(main, ["calibrate", str(path), "--samples", "8", "-o", str(tmp_path / "out")])
    assert "plain.onnx, nothing in INT8" in result.output
    assert result.exit_code == 3
