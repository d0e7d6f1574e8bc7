"""Refinements by name: one that fails leaves the model as it was, and says why."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dfq_deploy import Samples, calibrate
from dfq_deploy.errors import DfqError, ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.refinement import block_learner, cross_layer_equalization
from dfq_deploy.refinement.registry import refine_weights, some_of
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.budget import noted
from examples.digits import data

TOO_MUCH = 2**47
"""Numbers that no machine has the memory for: 512 TiB."""


def torch_runs_out() -> None:
    torch.empty(TOO_MUCH)


def numpy_runs_out() -> None:
    np.empty(TOO_MUCH)


def twin_cannot_run() -> None:
    torch.zeros(2, 3) @ torch.zeros(2, 3)


def failing_at(
    call: int, function: Callable[..., object], fail: Callable[[], None], *, once: bool = False
) -> Callable[..., object]:
    """``function``, which fails in its call of that number, and in all later ones or not."""
    calls = 0

    def wrapped(*arguments: object, **keywords: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call or (calls > call and not once):
            fail()
        return function(*arguments, **keywords)

    return wrapped


def initializers(prepared: Prepared) -> dict[str, bytes]:
    tensors = {name: value.const_value for name, value in prepared.model.graph.initializers.items()}
    return {name: tensor.tobytes() for name, tensor in tensors.items() if tensor is not None}


@pytest.fixture
def images(digits: Samples) -> Samples:
    """A few samples."""
    return digits.part(slice(64))


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (torch_runs_out, "refinement 'reconstruct' was left out: out of memory ([enforce fail"),
        (numpy_runs_out, "refinement 'reconstruct' was left out: out of memory (Unable to allocate"),
        (twin_cannot_run, "refinement 'reconstruct' was left out, since the twin cannot run the model (mat1 and mat2"),
    ],
)
def test_a_reconstruction_that_fails_at_its_second_block_changes_nothing(
    digits_bn: Path,
    images: Samples,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fail: Callable[[], None],
    words: str,
) -> None:
    calibrate(digits_bn, data=images, bits="w3a3", refine=(), preprocess=data.PREPROCESS, output=tmp_path / "plain")
    learn = block_learner.BlockLearner._descend
    monkeypatch.setattr(block_learner.BlockLearner, "_descend", failing_at(2, learn, fail))
    failed = calibrate(digits_bn, data=images, bits="w3a3", preprocess=data.PREPROCESS, output=tmp_path / "failed")
    (warning,) = (warning for warning in failed.report["warnings"] if "refinement" in warning)
    assert warning.startswith(words)
    for name in ("model.qdq.onnx", "encodings.json"):
        assert (tmp_path / "failed" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_refinement_that_was_asked_for_raises(
    digits_bn: Path, images: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = block_learner.BlockLearner._descend
    monkeypatch.setattr(block_learner.BlockLearner, "_descend", failing_at(2, learn, torch_runs_out))
    with pytest.raises(DfqError, match=r"^refinement 'reconstruct' ran out of memory \(.*\); use fewer samples"):
        calibrate(digits_bn, data=images, bits="w3a3", refine=("reconstruct",))
    monkeypatch.setattr(block_learner.BlockLearner, "_descend", failing_at(2, learn, twin_cannot_run))
    with pytest.raises(ModelError, match=r"^refinement 'reconstruct' cannot run: mat1.*--refine none$"):
        calibrate(digits_bn, data=images, bits="w3a3", refine=("reconstruct",))


def test_an_equalization_that_fails_at_its_second_pair_changes_nothing(
    digits_bn: Path, images: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits())
    before = initializers(prepared)
    apply = cross_layer_equalization._apply
    monkeypatch.setattr(cross_layer_equalization, "_apply", failing_at(2, apply, torch_runs_out))
    kept, warnings = refine_weights(prepared, ("equalize",), images, optional=("equalize",))
    assert warnings[0].startswith("refinement 'equalize' was left out: out of memory")
    assert initializers(kept) == before
    monkeypatch.setattr(cross_layer_equalization, "_apply", apply)
    equalized, warnings = refine_weights(prepared, ("equalize",), images)
    assert warnings == ()
    assert initializers(equalized) != before  # or there was nothing to change, and the test says nothing
    assert initializers(prepared) == before


def test_one_that_runs_out_of_memory_takes_fewer_samples(
    digits_bn: Path, images: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits())
    apply = cross_layer_equalization._apply
    monkeypatch.setattr(cross_layer_equalization, "_apply", failing_at(2, apply, numpy_runs_out, once=True))
    again, warnings = refine_weights(prepared, ("equalize",), images)
    assert warnings == ("refinement 'equalize' ran out of memory on 64 samples, and took 16 of them",)
    monkeypatch.setattr(cross_layer_equalization, "_apply", apply)
    fewer, _ = refine_weights(prepared, ("equalize",), images.part(slice(None, None, 4)))
    assert initializers(again) == initializers(fewer)


def test_many_samples_are_thinned_out() -> None:
    many = Samples(np.arange(3000, dtype=np.float32).reshape(3000, 1))
    few = some_of(many)
    assert (len(few), few.images[0, 0], few.images[-1, 0]) == (1024, 0, 2997)
    large = Samples(np.zeros((80, 2**18), np.float32))
    assert len(some_of(large)) == 64
    assert some_of(few) is few


def test_a_small_budget_takes_fewer_samples_and_says_so(digits_bn: Path, images: Samples) -> None:
    with use_bounds(Bounds(memory=2**20)), noted() as notes:
        assert len(some_of(images)) == 32
    said = "--max-memory leaves 0.0328 MB to the samples of a refinement, so it took 32 instead of 64"
    assert notes == [said]
    with use_bounds(Bounds(memory=2**12)), noted():
        assert len(some_of(images)) == 8
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits())
    with use_bounds(Bounds(memory=2**20)):
        refined, warnings = refine_weights(prepared, ("equalize",), images)
    assert warnings == (said,)
    fewer, _ = refine_weights(prepared, ("equalize",), images.part(slice(None, None, 2)))
    assert initializers(refined) == initializers(fewer)
