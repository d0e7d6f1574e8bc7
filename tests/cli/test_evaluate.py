"""``dfq-deploy evaluate``: the last line, the exit status, gates and ``--metric``."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dfq_deploy import Samples
from dfq_deploy.cli.main import main
from examples.digits import data

METRIC = """
def right(outputs, labels):
    print("a line of the metric")
    return (outputs["scores"].argmax(axis=1) == labels).mean()

def fails(outputs, labels):
    return outputs["boxes"]
"""


@pytest.fixture
def files(
    digits_bn: Path, digits_int8: Path, held_out: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Both models; real digits are in ``real.npz``, a metric in ``metric.py``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    held_out.part(slice(128)).save("real.npz")
    Samples(held_out.images[:128]).save("unlabelled.npz")
    Path("metric.py").write_text(METRIC)
    return [str(digits_bn), str(digits_int8)]


def run(files: list[str], *options: str) -> Result:
    return CliRunner().invoke(main, ["evaluate", *files, *options])


def test_the_last_line_is_the_verdict(files: list[str]) -> None:
    result = run(files, "--data", "real.npz")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("OK: top-1 falls by 0.00 points")
    drawn = run(files, "--mean", str(data.PREPROCESS.mean[0]), "--std", str(data.PREPROCESS.std[0]))
    assert drawn.exit_code == 0, drawn.output
    assert drawn.stdout.splitlines()[-1].startswith("OK: predicted agreement with float on real inputs: ")


def test_gates_that_are_met_and_missed(files: list[str]) -> None:
    met = run(files, "--data", "real.npz", "--min-agreement", "95", "--max-drop", "1", "--min-snr", "20")
    assert met.exit_code == 0, met.output
    lines = met.stdout.splitlines()
    first = lines.index("gates  3 of 3 met")
    assert [line.split("  ")[1] for line in lines[first + 1 : first + 4]] == [
        "--min-agreement met", "--max-drop met", "--min-snr met",
    ]  # fmt: skip
    assert lines[-1].startswith("OK: --min-agreement met: ")
    missed = run(files, "--data", "real.npz", "--min-agreement", "95", "--min-snr", "90")
    assert missed.exit_code == 3, missed.output
    lines = missed.stdout.splitlines()
    assert "gates  1 of 2 met" in lines
    assert lines[-1].startswith("BAD: --min-snr missed: output 'scores' has ")
    assert "dB of signal to noise, at least 90 is asked for; next: dfq-deploy inspect " in lines[-1]


def test_json_has_the_verdict(files: list[str]) -> None:
    result = run(files, "--data", "real.npz", "--min-snr", "90", "--metric", "metric.py:right", "--json", "-q")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["verdict"]["status"] == "BAD"
    assert document["verdict"]["reason"].startswith("--min-snr missed: ")
    (gate,) = (entry for entry in document["verdict"]["findings"] if entry["code"] == "gate-min-snr")
    assert gate["figures"]["bound"] == 90
    assert document["metric"] == {
        "name": "right",
        "float": pytest.approx(document["float_top1"] / 100),
        "quantized": pytest.approx(document["quantized_top1"] / 100),
        "drop": pytest.approx(document["drop"] / 100),
    }
    assert "a line of the metric" in result.stderr


def test_a_metric_of_one_s_own(files: list[str]) -> None:
    options = ["--data", "real.npz", "--metric", "metric.py:right"]
    met = run(files, *options, "--max-drop", "0.02", "--min-metric", "0.9")
    assert met.exit_code == 0, met.output
    assert any(line.startswith("  right  ") for line in met.stdout.splitlines())
    assert "--max-drop met" in met.stdout
    assert "right falls by " in met.stdout
    missed = run(files, *options, "--min-metric", "1.01")
    assert missed.exit_code == 3
    assert missed.stdout.splitlines()[-1].startswith("BAD: --min-metric missed: right of the quantized model is ")


@pytest.mark.parametrize(
    ("status", "words", "options"),
    [
        (2, "--max-drop bounds the loss of top-1, which needs labels, and the samples have none", ["--max-drop", "1"]),
        (2, "--min-metric bounds the metric, and there is none; give --metric", ["--min-metric", "1"]),
        (2, "--min-snr: 'nan' is not a finite number of dB", ["--min-snr", "nan"]),
        (2, "--min-agreement: '120' is not a percentage from 0 to 100", ["--min-agreement", "120"]),
        (2, "'metric.py' is neither map nor of the form FILE.py:FUNCTION, e.g.", ["--metric", "metric.py"]),
        (1, "--max-drop bounds the loss of top-1, which needs labels", ["--data", "unlabelled.npz", "--max-drop", "1"]),
        (1, "--metric: none.py: no such file; give FILE.py:FUNCTION", ["--metric", "none.py:f1"]),
        (1, "--metric: metric.py has no function 'f1'; it defines right, fails", ["--metric", "metric.py:f1"]),
        (1, "metric 'fails' raises KeyError: 'boxes' (metric.py, line 7)", ["--metric", "metric.py:fails"]),
        (2, "unknown target 'abacus'", ["--target", "abacus"]),
    ],
)
def test_what_is_refused(files: list[str], status: int, words: str, options: list[str]) -> None:
    result = run(files, *options, "--samples", "8", "-q")
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_help_has_examples_and_the_exit_status() -> None:
    shown = CliRunner().invoke(main, ["evaluate", "--help"]).stdout
    assert "3: BAD." in shown
    assert "dfq-deploy evaluate model.onnx int8.onnx --data photos --preprocess imagenet --max-drop 1" in shown
