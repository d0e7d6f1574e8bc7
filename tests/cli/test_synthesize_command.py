"""``synthesize`` as a user meets it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dfq_deploy.pipeline import synthesize
from dfq_deploy.samples.samples import Samples
from tests.cli.conftest import run


def test_synthesize_writes_samples_and_picture(here: Path, net: Path) -> None:
    result = run("synthesize", net.name, "--method", "noise", "--option", "distribution=gaussian", "--samples", "50")
    assert result.exit_code == 0, result.output
    head, *figures = result.stdout.splitlines()
    assert head == "50 samples  3 x 8 x 8, noise"
    assert [line.split()[0] for line in figures] == [
        "statistics", "classes", "confidence", "diversity", "wrote", "wrote",
    ]  # fmt: skip
    assert figures[-2:] == ["  wrote       net-samples.npz", "  wrote       net-samples.png"]
    assert re.fullmatch(r"noise: done in 0\.\d s\n", result.stderr)
    images = Samples.load(here / "net-samples.npz").images
    assert images.shape == (50, 3, 8, 8)
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
    assert (here / "net-samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_verifier_is_asked(here: Path, net: Path) -> None:
    arguments = ("synthesize", net.name, "--method", "noise", "--samples", "4", "--verifier", net.name)
    found = json.loads(run(*arguments, "--json", "-q").stdout)
    assert found["figures"]["verifier_agreement"] == 1
    assert "verifier    100 % get the same class from the second network" in run(*arguments).stdout


def test_synthesize_json_and_the_same_seed(here: Path, net: Path) -> None:
    for name in ("a.npz", "b.npz"):
        result = run(
            "synthesize", net.name, "--method", "noise", "--samples", "4", "--seed", "7", "-o", name, "--json", "-q"
        )
        assert json.loads(result.stdout)["files"] == [name, name.replace("npz", "png")]
        assert result.stderr == ""
    assert (here / "a.npz").read_bytes() == (here / "b.npz").read_bytes()


def test_options_reach_the_method(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(model: Path, **options: object) -> Samples:
        seen.update(options)
        return Samples(np.zeros((1, 3, 8, 8), np.float32))

    monkeypatch.setattr(synthesize, "synthesize", record)
    settings = ["--iterations", "7", "--option", "tv-l2=0.25", "--option", "flip=false", "--option", "jitter=none"]
    result = run("synthesize", net.name, *settings, "--mean", "0.5", "--std", "0.25", "--seed", "3")
    assert result.exit_code == 0, result.output
    method = seen["synth"]
    assert [getattr(method, name) for name in ("iterations", "tv_l2", "flip", "jitter")] == [7, 0.25, False, None]
    assert seen["seed"] == 3
    assert repr(seen["preprocess"]) == "Preprocess(mean=(0.5,), std=(0.25,))"
