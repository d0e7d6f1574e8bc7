"""The summary of a calibration: which method made the samples, and which one was asked for."""

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from dfq_deploy.cli.main import main
from dfq_deploy.cli.views.results import _samples_text, _size_text
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


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (121_000, 62_800, "121 kB to 62.8 kB, 1.9 times smaller"),
        (2_700, 6_900, "2.7 kB to 6.9 kB, 2.6 times larger"),
        (100_000, 100_000, "100 kB to 100 kB, 1.0 times smaller"),
    ],
)
def test_what_grows_is_not_called_smaller(before: int, after: int, said: str) -> None:
    assert _size_text(before, after) == said


def test_a_result_in_which_nothing_is_quantized_is_headed_so(model_of: ModelOf, tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    onnx.save(model_of("float[n,3,8,8] x", "float[n,3,8,8] y", "y = Relu(x)", {}), path)
    result = CliRunner().invoke(main, ["calibrate", str(path), "--samples", "8", "-o", str(tmp_path / "out")])
    assert "plain.onnx, nothing in INT8" in result.output
    assert result.exit_code == 3
