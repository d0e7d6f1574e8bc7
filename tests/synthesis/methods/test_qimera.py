"""What Qimera adds to a conditional generator: superposition, soft labels, the classifier's rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.methods.qimera import Qimera, classifier_rows, soft_labels
from dfq_deploy.twin import Twin

ModelOf = Callable[..., onnx.ModelProto]

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
"""The classifier's weights, one row for each of two classes."""


def sampler_of(twin: Twin, **options: float | int | str) -> torch.nn.Module:
    """Qimera's generator for ten digits, untrained."""
    method = Qimera(schedule="short", channels=4, batch=8, **options)  # type: ignore[arg-type]
    source = method.build([twin], SynthesisRequest(8, (1, 16, 16), 10, PREPROCESSES["zero-one"]))
    return source.samplers[0]


@pytest.fixture(scope="module")
def digits(digits_bn: Path) -> Twin:
    return Twin.from_model(load(digits_bn))


def test_soft_labels_are_the_shares_and_add_up_where_a_class_comes_twice() -> None:
    classes = torch.tensor([[2, 0], [1, 1]])
    shares = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert soft_labels(classes, shares, 3).tolist() == [[0.25, 0, 0.75], [0, 1, 0]]


def test_labels_are_the_shares_of_what_was_superposed(digits: Twin) -> None:
    sampler = sampler_of(digits, superposed=1.0, parts=3)
    chosen = sampler.choose(8, torch.Generator().manual_seed(1))  # type: ignore[operator]
    _, labels = sampler(8, torch.Generator().manual_seed(1))
    assert chosen[0].shape == chosen[1].shape == (8, 3)
    for row in range(8):
        wanted = dict.fromkeys(range(10), 0.0)
        for label, share in zip(chosen[0][row].tolist(), chosen[1][row].tolist(), strict=True):
            wanted[label] += share
        assert labels[row].tolist() == pytest.approx(list(wanted.values()))
    assert labels.sum(1).tolist() == pytest.approx([1.0] * 8)
    assert float(labels.max()) < 0.999


def test_in_training_a_batch_is_superposed_as_a_whole(digits: Twin) -> None:
    sampler = sampler_of(digits, superposed=0.4).train()
    generator = torch.Generator().manual_seed(0)
    pure = [(sampler.choose(8, generator)[1].max(1).values == 1) for _ in range(200)]  # type: ignore[operator]
    assert {bool(batch.all()) for batch in pure} == {True, False}
    assert all(bool(batch.all()) or not bool(batch.any()) for batch in pure)
    assert np.mean([not bool(batch.all()) for batch in pure]) == pytest.approx(0.4, abs=0.1)


def test_drawn_samples_are_superposed_one_by_one(digits: Twin) -> None:
    sampler = sampler_of(digits, superposed=0.4).eval()
    _, shares = sampler.choose(2000, torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert float((shares.max(1).values < 1).float().mean()) == pytest.approx(0.4, abs=0.04)


def test_how_many_are_superposed(digits: Twin) -> None:
    assert sampler_of(digits).parts == 2  # as the paper has it for ten classes
    assert sampler_of(digits, parts=5).parts == 5


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ("y = Gemm <transB = 1> (x, w)", ROWS),
        ("y = Gemm (x, w)", ROWS.T),
        ("y = MatMul (x, w)", ROWS.T),
        ("m = MatMul (x, w) y = Add (m, b)", ROWS.T),
        ("u = Unsqueeze (x, axes) c = Conv (u, w) y = Flatten (c)", ROWS[:, :, None, None]),
    ],
)
def test_the_classifier_s_rows_are_found(model_of: ModelOf, nodes: str, weights: np.ndarray) -> None:
    more = {"b": np.ones(2, np.float32), "axes": np.array([2, 3])}
    used = {name: array for name, array in more.items() if name in nodes.replace("(", " ").replace(")", " ").split()}
    twin = Twin.from_model(load(model_of("float[n,3] x", "float[n,2] y", nodes, {"w": weights, **used})))
    rows = classifier_rows(twin, 2)
    assert rows is not None
    np.testing.assert_array_equal(rows.numpy(), ROWS)
    assert classifier_rows(twin, 4) is None


def test_the_embeddings_start_as_the_classifier(digits: Twin) -> None:
    rows = classifier_rows(digits, 10)
    assert rows is not None
    sampler = sampler_of(digits)
    embeddings = sampler.embeddings
    assert isinstance(embeddings, torch.nn.Parameter)
    assert embeddings.shape == (10, 64)
    assert np.corrcoef(embeddings.detach().flatten(), rows.flatten())[0, 1] == pytest.approx(1)
    assert float(embeddings.detach().std()) == pytest.approx(1, rel=1e-3)
    assert sampler_of(digits, embedding="random", latent=30).norm.num_features == 30  # type: ignore[union-attr]


def test_without_a_classifier_random_embeddings_serve(model_of: ModelOf) -> None:
    ones = {name: np.ones(2, np.float32) for name in ("s", "o", "m", "v")}
    nodes = "b = BatchNormalization (x, s, o, m, v) p = GlobalAveragePool (b) y = Flatten (p)"
    twin = Twin.from_model(load(model_of("float[n,2,8,8] x", "float[n,2] y", nodes, ones)))
    request = SynthesisRequest(4, (2, 8, 8), 2)
    assert len(Qimera(iterations=2, channels=4, batch=4).synthesize([twin], request)) == 4
    with pytest.raises(ModelError, match=r"does not end in a Gemm, MatMul or 1x1 Conv; use embedding=random"):
        Qimera(embedding="classifier").synthesize([twin], request)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"superposed": 1.5}, "superposed=1.5 is not a probability"),
        ({"parts": 0}, "parts=0 must be at least 1"),
        ({"embedding": "teacher"}, "embedding 'teacher' is not one of auto, classifier, random"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(OptionError, match=f"qimera: {text}"):
        Qimera(**options)  # type: ignore[arg-type]
