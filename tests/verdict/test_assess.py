"""The whole verdict, on results that are wrong and look right, and on good ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dfq_deploy import Samples, calibrate
from dfq_deploy.cli import main
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.verdict.finding import Verdict
from examples.digits import data


def _verdict(model: Path, samples: Samples | None, preprocess: Preprocess = data.PREPROCESS) -> Verdict:
    how = {"synth": "procedural", "count": 64} if samples is None else {"data": samples}
    verdict = calibrate(model, preprocess=preprocess, **how).report.verdict
    assert verdict is not None
    return verdict


def _codes(verdict: Verdict, level: str) -> set[str]:
    return {finding.code for finding in verdict.findings if finding.level == level}


def _digits(count: int) -> Samples:
    return Samples(data.PREPROCESS.apply(data.training().images[:count]))


@pytest.mark.parametrize("bits", [None, "w8a8"])
def test_a_good_result_is_ok(digits_bn: Path, bits: str | None) -> None:
    report = calibrate(digits_bn, data=_digits(128), preprocess=data.PREPROCESS, bits=bits).report
    assert report.verdict is not None
    assert report.verdict.status == "OK"
    assert report.verdict.reason.startswith("predicted agreement with float on real inputs: 9")
    assert [kind["kind"] for kind in report["agreement"]["kinds"]] == ["data", "procedural", "photographs"]
    assert report["kernels"]["integer"] == report["kernels"]["total"] > 0
    layers = report["noise"]["layers"]
    assert [layer["own_snr_db"] for layer in layers] == sorted(layer["own_snr_db"] for layer in layers)


def test_a_layer_that_is_kept_in_float_is_not_bad(digits_bn: Path) -> None:
    keep: dict[str, Any] = {"keep_float": ["/features/features.0/Conv"], "floor": "none", "refine": ()}
    report = calibrate(digits_bn, data=_digits(64), preprocess=data.PREPROCESS, **keep).report
    assert report.verdict is not None
    assert "rules" not in {finding.code for finding in report.verdict.findings}


def test_blank_samples_are_bad(digits_bn: Path) -> None:
    verdict = _verdict(digits_bn, Samples(np.zeros((16, 1, 16, 16), np.float32)))
    assert (verdict.status, verdict.reason) == (
        "BAD",
        "all samples are zeros: nothing but the biases would be calibrated",
    )
    assert verdict.command.endswith("--synth deepinversion")


def test_one_sample_is_bad(digits_bn: Path) -> None:
    assert "samples-few" in _codes(_verdict(digits_bn, _digits(1)), "BAD")


@pytest.mark.parametrize("preprocess", [PREPROCESSES["raw"], Preprocess((0.305,), (100.0,))], ids=["raw", "std 100"])
def test_a_preprocess_that_does_not_fit_is_bad(digits_bn: Path, preprocess: Preprocess) -> None:
    verdict = _verdict(digits_bn, None, preprocess)
    assert verdict.status == "BAD"
    assert "preprocess-fit" in _codes(verdict, "BAD")


def test_two_bits_are_bad(digits_bn: Path) -> None:
    report = calibrate(digits_bn, data=_digits(64), preprocess=data.PREPROCESS, bits="w2a2", refine=()).report
    assert report.verdict is not None
    assert report.verdict.status == "BAD"
    assert "agreement" in _codes(report.verdict, "BAD")


@pytest.mark.parametrize("quiet", [True, False])
def test_a_bad_result_ends_with_status_3_and_the_word(digits_bn: Path, tmp_path: Path, quiet: bool) -> None:
    np.savez(tmp_path / "zero.npz", images=np.zeros((16, 1, 16, 16), np.float32))
    arguments = ["calibrate", str(digits_bn), "--data", str(tmp_path / "zero.npz"), "--mean=0.305", "--std=0.319"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "out"), *(["-q"] if quiet else [])])
    assert result.exit_code == 3
    last = (result.stderr if quiet else result.stdout).rstrip().splitlines()[-1]
    assert last.startswith("BAD: all samples are zeros")
    assert f"; next: dfq-deploy calibrate {digits_bn} --mean=0.305" in last
    assert (tmp_path / "out/model.qdq.onnx").is_file()
    assert json.loads((tmp_path / "out/report.json").read_text())["verdict"]["status"] == "BAD"
    page = (tmp_path / "out/report.html").read_text()
    assert page.index('<span class="light poor">BAD</span>') < page.index('id="sanity-title"')
