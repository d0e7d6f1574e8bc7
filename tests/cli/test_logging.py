"""What --verbose and --debug log, and that nothing is logged without them."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.cli.main import main

Model = Callable[..., onnx.ModelProto]

STEPS = (
    r"synthesis: 16 samples of shape (3, 8, 8) by noise on cpu, seed 0, 0 teacher(s)",
    "calibration: bits w8a8 for target 'cpu', calibrator MeanSquaredError, refinements: bias",
    "encodings: 4 activations on 14 samples, headroom 1.2, 2 weights; 0 layers stay in float",
    "refinement 'bias' done on 14 samples",
    "export: model.qdq.onnx, ",
    "check: output 'scores' on 2 held-out samples: SNR ",
)
"""The beginnings of lines, in their order."""


@pytest.fixture
def net(tmp_path: Path, tiny: Model) -> Path:
    """A tiny network on disk."""
    onnx.save(tiny(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def stderr_of(net: Path, *options: str) -> list[str]:
    arguments = ["calibrate", str(net), "--synth", "noise", "--samples", "16", "-o", str(net.parent / "out"), "-q"]
    result = CliRunner().invoke(main, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def test_verbose_tells_the_steps(net: Path) -> None:
    lines = stderr_of(net, "-v")
    found = [next((index for index, line in enumerate(lines) if line.startswith(step)), None) for step in STEPS]
    assert None not in found, lines
    assert found == sorted(index for index in found if index is not None)
    seconds = [line.partition(":")[0] for line in lines if line.endswith(" s")]
    assert seconds == ["samples", "ranges", "refinement", "remedies", "export", "check", "verdict", "report"]
    assert not [line for line in lines if line.startswith("bias correction: ")]


def test_debug_tells_the_layers(net: Path) -> None:
    lines = stderr_of(net, "--debug")
    assert len([line for line in lines if line.startswith("bias correction: ") and "standard deviations" in line]) == 2


def test_nothing_is_logged_by_default(net: Path) -> None:
    stderr_of(net, "-v")
    assert stderr_of(net) == []


def test_the_library_logs_to_the_loggers_of_its_modules(tiny: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dfq_deploy")
    samples = synthesize(tiny(), synth="noise", count=16)
    calibrate(tiny(), data=Samples(samples.images.astype(np.float32)), refine=("equalize",))
    names = {record.name for record in caplog.records}
    expected = ("synthesis.session", "quantization.encode", "refinement.registry", "pipeline.fit", "exporters.qdq")
    assert {f"dfq_deploy.{name}" for name in expected} <= names
    assert all(name.startswith("dfq_deploy.") for name in names if "dfq" in name)
