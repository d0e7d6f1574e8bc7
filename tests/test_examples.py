"""The shipped example: its files, its training, and the demo from end to end."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from dfq_deploy.cli.main import main as dfq_deploy
from examples.digits import data, demo, train
from examples.digits.network import DigitNet
from examples.digits_vit import train as train_vit


def _scores(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(["scores"], {"image": images})[0]
    return scores


def _operators(path: Path) -> list[str]:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return [node.op_type for node in model.graph.node]


def test_committed_files_are_small_and_valid(digits_bn: Path, digits_folded: Path) -> None:
    assert _operators(digits_bn).count("BatchNormalization") == 9
    assert _operators(digits_folded).count("BatchNormalization") == 0
    for path in (digits_bn, digits_folded):
        assert _operators(path).count("Conv") == 9
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["digits_bn", "digits_folded"])
def test_committed_files_reach_what_the_readme_says(name: str, request: pytest.FixtureRequest) -> None:
    pictures = data.held_out()
    scores = _scores(request.getfixturevalue(name), data.PREPROCESS.apply(pictures.images))
    assert 100 * (scores.argmax(1) == pictures.labels).mean() == pytest.approx(99.8)


def test_split_is_clean_and_always_the_same() -> None:
    held, training = data.held_out(), data.training()
    assert (len(held.images), len(training.images)) == (500, 1297)
    assert held.images.shape[1:] == training.images.shape[1:] == (16, 16, 1)
    seen = {picture.tobytes() for picture in training.images}
    assert not seen & {picture.tobytes() for picture in held.images}
    assert set(held.labels.tolist()) == set(range(10))
    np.testing.assert_array_equal(held.images, data.held_out().images)


def test_preprocessing_is_that_of_the_training_pixels() -> None:
    inputs = data.PREPROCESS.apply(data.training().images)
    assert float(inputs.mean()) == pytest.approx(0, abs=0.05)
    assert float(inputs.std()) == pytest.approx(1, abs=0.05)


def test_training_lowers_the_loss_and_repeats() -> None:
    network, losses = train.train(data.training(), epochs=2)
    # Ten classes start at ln 10 = 2.3 nats.
    assert losses[0] == pytest.approx(2.1, abs=0.3)
    assert losses[1] < 0.7 * losses[0]
    assert train.accuracy(network, data.held_out()) > 60
    few = data.Pictures(data.training().images[:128], data.training().labels[:128])
    one, two = (train.train(few, epochs=1)[0].parameters() for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, two, strict=True))


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "folded"])
def test_export_computes_what_the_network_does(tmp_path: Path, keep: bool) -> None:
    pictures = data.Pictures(data.training().images[:128], data.training().labels[:128])
    network, _ = train.train(pictures, epochs=1)
    train.export(network, tmp_path / "net.onnx", keep_normalization=keep)
    assert ("BatchNormalization" in _operators(tmp_path / "net.onnx")) is keep
    images = data.PREPROCESS.apply(data.held_out().images[:7])
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(_scores(tmp_path / "net.onnx", images), expected, atol=2e-5)


def test_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in DigitNet().parameters()) == 27338


def test_demo_from_end_to_end(tmp_path: Path) -> None:
    # A quarter of the samples that the command takes by itself, for speed.
    dfq_deploy([*demo.command(tmp_path), "--samples", "64"], standalone_mode=False)
    rows = demo.measure(tmp_path)
    plain, synthesized, ours_on_noise, theirs_on_noise = rows
    assert plain.top1 == pytest.approx(99.8)
    assert plain.agreement == 100
    assert synthesized.top1 >= plain.top1 - 0.5
    assert synthesized.agreement >= 99
    assert theirs_on_noise.top1 < 50
    assert ours_on_noise.top1 < synthesized.top1
    # Counted once more, with nothing of ours.
    pictures = data.held_out()
    scores = _scores(tmp_path / "model.qdq.onnx", data.PREPROCESS.apply(pictures.images))
    assert 100 * (scores.argmax(1) == pictures.labels).mean() == pytest.approx(synthesized.top1)
    assert {"model.qdq.onnx", "encodings.json", "samples.npz", "samples.png", "report.json", "report.html"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_transformer_is_small_and_reads_digits(checkout: Path) -> None:
    path = checkout / "examples/digits_vit/digits_vit.onnx"
    assert path.stat().st_size < 400_000
    operators = _operators(path)
    assert operators.count("Softmax") == 3
    assert operators.count("BatchNormalization") == 0
    pictures = data.held_out()
    scores = _scores(path, data.PREPROCESS.apply(pictures.images))
    assert 100 * (scores.argmax(1) == pictures.labels).mean() == pytest.approx(99.2)


def test_the_transformer_learns_and_is_exported(tmp_path: Path) -> None:
    few = data.Pictures(data.training().images[:128], data.training().labels[:128])
    network, losses = train_vit.train(few, epochs=12)
    assert losses[-1] < 0.9 * losses[0]
    train_vit.export(network, tmp_path / "vit.onnx")
    images = data.PREPROCESS.apply(few.images[:5])
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(_scores(tmp_path / "vit.onnx", images), expected, atol=1e-4)


def test_the_example_plugin_tests_itself(checkout: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_stripes.py"]
    run = subprocess.run(command, cwd=checkout / "examples/plugin", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
