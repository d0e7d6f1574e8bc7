"""Samples that were drawn without a preprocess are a guess where no BatchNormalization tells, and said to be one."""

from pathlib import Path

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.findings import sanity_findings
from examples.digits import data

CODE = "preprocess-missing"


def _drawn(path: Path) -> Samples:
    return synthesize_from(load(path), "procedural", (), count=32, preprocess=None, seed=0, device="cpu")


def _finding(path: Path, samples: Samples, **known: object) -> Finding | None:
    found = sanity_findings(load(path), samples, **known)  # type: ignore[arg-type]
    return next((entry for entry in found if entry.code == CODE), None)


def test_a_file_without_statistics_needs_a_preprocess(digits_folded: Path) -> None:
    found = _finding(digits_folded, _drawn(digits_folded))
    assert found is not None
    assert found.level == "CHECK"
    assert found.message.startswith("no --preprocess was given, so the samples have mean 0 and deviation 1: ")
    assert found.options.startswith("--preprocess ")


def test_statistics_that_fit_are_good_enough(digits_bn: Path) -> None:
    found = _finding(digits_bn, _drawn(digits_bn))
    assert found is not None
    assert found.level == "OK"
    assert "fits the BatchNormalization" in found.message


def test_nothing_is_missing_where_the_bounds_are_known(digits_folded: Path) -> None:
    samples = _drawn(digits_folded)
    assert _finding(digits_folded, samples, preprocess=data.PREPROCESS) is None
    assert _finding(digits_folded, samples, ranges={"image": (-1.0, 2.0)}) is None


def test_arrays_of_the_user_are_in_the_models_own_units(digits_folded: Path) -> None:
    real = Samples(data.PREPROCESS.apply(data.training().images[:32]))
    assert _finding(digits_folded, real) is None
