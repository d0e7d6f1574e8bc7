"""Checkpoint files: whole or not at all, and of one call only."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dfq_deploy import Samples
from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.qat.checkpoints import Checkpoints

SAMPLES = Samples(
    np.ones((4, 1, 2, 2), np.float32), method="zeroq", figures={"diversity": 0.25}, notes=("a note",), synthetic=True
)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, {"bits": "w4a4", "rates": (1, 2)})
    kept.begin(SAMPLES)
    assert kept.state() is None
    kept.save({"step": 3, "student": {"w": torch.arange(3.0)}})
    again = Checkpoints(tmp_path, {"bits": "w4a4", "rates": (1, 2)})
    back = again.samples()
    np.testing.assert_array_equal(back.images, SAMPLES.images)
    assert (back.method, back.figures, back.notes) == (SAMPLES.method, SAMPLES.figures, SAMPLES.notes)
    assert back.is_synthetic
    state = again.state()
    assert state is not None
    assert state["step"] == 3
    assert state["student"]["w"].tolist() == [0, 1, 2]
    again.clear()
    assert not list(tmp_path.iterdir())


def test_a_new_training_forgets_the_one_before(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, {"bits": "w4a4"})
    kept.begin(SAMPLES)
    kept.save({"step": 3})
    kept.begin(SAMPLES)
    assert kept.state() is None


def test_a_write_that_fails_leaves_the_last_state(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, {})
    kept.begin(SAMPLES)
    kept.save({"step": 3})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        kept.save({"step": lambda: 4})  # cannot be pickled
    state = kept.state()
    assert state is not None
    assert state["step"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in kept.paths}


def test_another_call_is_refused_by_what_differs(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {"bits": "w4a4", "seed": 0}).begin(SAMPLES)
    with pytest.raises(SamplesError, match=r"the checkpoint in .* has seed=0, and this call has seed=1"):
        Checkpoints(tmp_path, {"bits": "w4a4", "seed": 1}).samples()
    with pytest.raises(SamplesError, match=r"nothing to resume in .*; omit --resume"):
        Checkpoints(tmp_path / "elsewhere", {}).samples()


def test_a_broken_state_is_said_in_one_line(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, {})
    kept.begin(SAMPLES)
    kept.paths[2].write_bytes(b"no checkpoint")
    with pytest.raises(OutputError, match="the checkpoint cannot be read"):
        kept.state()
