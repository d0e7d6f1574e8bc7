"""Samples that were drawn without a preprocess are a guess where no BatchNormalization tells, and said to be one."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.findings import sanity_findings
from examples.digits import data
from tests.conftest import ModelOf

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


def _regression(model_of: ModelOf, scale: float) -> ir.Model:
    """Eight coordinates; the biases are of the size of responses to inputs whose deviation is ``scale``."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.2 / scale, (8, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 1, 8).astype(np.float32),
        "v": rng.normal(0, 0.4, (8, 8)).astype(np.float32),
    }
    nodes = (
        "c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) boxes = Gemm(f, v)"
    )
    return load(model_of("float[n,3,32,32] x", "float[n,8] boxes", nodes, weights))


@pytest.mark.parametrize(("scale", "said"), [(64.0, "raw"), (1.0, "imagenet or zero-one or minus-one-one")])
def test_without_class_scores_the_first_layer_tells(model_of: ModelOf, scale: float, said: str) -> None:
    model = _regression(model_of, scale)
    samples = synthesize_from(model, "procedural", (), count=16, preprocess=None, seed=0, device="cpu")
    found = {entry.code: entry for entry in sanity_findings(model, samples)}
    assert found[CODE].remedy == f"give the preprocess of the training; of the known ones, {said} may be it"
    assert found[CODE].options == ("--preprocess raw" if said == "raw" else "--preprocess NAME")
    assert (found["samples-scale"].level != "OK") is (said == "raw")
    if found["samples-diversity"].level != "OK":
        assert found["samples-diversity"].options == "--preprocess raw"
