"""PSAQ-ViT: its terms by hand, where it finds attention, and what it makes of the digits transformer."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy import synthesize
from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.inversion.loop import Stage
from dfq_deploy.synthesis.losses.attention import as_tokens, attention_outputs
from dfq_deploy.synthesis.losses.image_priors import total_variation
from dfq_deploy.synthesis.methods.noise import Noise
from dfq_deploy.synthesis.methods.psaq import Psaq, PsaqObjective, entropy, similarities
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def transformer(checkout: Path) -> Path:
    return checkout / "examples/digits_vit/digits_vit.onnx"


@pytest.fixture(scope="module")
def teacher(transformer: Path) -> Twin:
    return Twin.from_model(load(transformer))


def test_similarities_are_cosines_of_pairs() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, -3.0]]])
    assert similarities(tokens).tolist()[0] == pytest.approx([0, -math.sqrt(0.5), -math.sqrt(0.5)])


def test_entropy_of_two_values_by_hand() -> None:
    # Standard deviation sqrt(2), so a kernel of width h = 1.06 sqrt(2) 2^-0.2 around 0 and around 2.
    width = 1.06 * math.sqrt(2) * 2**-0.2
    points = np.linspace(0, 2, 10)
    density = sum(np.exp(-(((points - value) / width) ** 2) / 2) for value in (0, 2)) / (
        2 * width * math.sqrt(2 * math.pi)
    )
    expected = -np.trapezoid(density * np.log(density), points)
    assert float(entropy(torch.tensor([[0.0, 2.0]]))) == pytest.approx(expected, rel=1e-4)


def test_wider_spreads_have_more_entropy() -> None:
    rows = torch.randn(1, 400, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [0.2]])
    narrow, wide = entropy(rows).tolist()
    # That of a normal distribution is ln(sigma sqrt(2 pi e)): twice the width adds ln 2.
    assert wide - narrow == pytest.approx(math.log(2), abs=0.02)
    assert narrow == pytest.approx(math.log(0.1 * math.sqrt(2 * math.pi * math.e)), abs=0.15)


def test_attention_is_found_by_its_structure(teacher: Twin, model_of: Model) -> None:
    assert len(attention_outputs(teacher)) == 3
    weights = {
        "w": np.eye(4, dtype=np.float32),
        "half": np.array(0.5, np.float32),
        "t": np.zeros((1, 5, 5), np.float32),
    }
    attends = "k = Transpose<perm=[0,2,1]>(x) s = MatMul(x, k) h = Mul(s, half) m = Add(h, t) p = Softmax(m)"
    model = model_of("float[n,5,4] x", "float[n,5,4] y", f"{attends} a = MatMul(p, x) y = MatMul(a, w)", weights)
    assert attention_outputs(Twin.from_model(load(model))) == ("a",)
    gated = "s = MatMul(x, w) p = Softmax(s) r = Relu(p) y = MatMul(r, w)"
    model = model_of("float[n,5,4] x", "float[n,5,4] y", gated, weights)
    assert attention_outputs(Twin.from_model(load(model))) == ()


def test_heads_are_joined() -> None:
    values = torch.arange(12.0).reshape(1, 2, 3, 2)
    assert as_tokens(values).tolist() == [[[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]]
    assert as_tokens(values[0]).shape == (2, 3, 2)


def test_the_loss_has_three_terms(teacher: Twin) -> None:
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([1, 2, 3, 4])
    layers = attention_outputs(teacher)
    kept = teacher.run({"image": images}, keep=layers)
    told_apart = sum(float(entropy(similarities(as_tokens(kept[name]))).mean()) for name in layers)
    cross = float(torch.nn.functional.cross_entropy(kept["scores"], targets))
    variation = float(total_variation(images)[1]) * math.sqrt(32 * 3 * 224 * 224 / (4 * 256))
    settings = Psaq(patch_weight=2.0, class_weight=3.0, tv_weight=0.5)
    loss = PsaqObjective(settings, teacher, layers, targets, 2600.0).loss(images, torch.Generator())
    assert float(loss.total) == pytest.approx(0.5 * abs(variation - 2600) - 2 * told_apart + 3 * cross, rel=0.02)


def test_patches_are_told_apart(transformer: Path, teacher: Twin) -> None:
    made = synthesize(transformer, synth=Psaq(iterations=40, batch=6, tv_weight=0.0), count=12)
    noise = torch.from_numpy(synthesize(transformer, synth=Noise("gaussian"), count=12).images)
    patches = PsaqObjective(Psaq(), teacher, attention_outputs(teacher), None, 0.0)
    before = patches.evaluate(noise)[1]["patch_entropy"]
    assert made.figures["patch_entropy"] == pytest.approx(
        patches.evaluate(torch.from_numpy(made.images))[1]["patch_entropy"], abs=0.01
    )
    assert made.figures["patch_entropy"] > before + 0.3
    assert made.figures["target_hit"] > 0.3
    assert made.method == "psaq"


def test_the_schedules() -> None:
    large, small = SynthesisRequest(1, (3, 224, 224), 1000), SynthesisRequest(1, (1, 16, 16), 10)
    assert Psaq(schedule="paper").stages(large) == [Stage(500, 1, 15, True), Stage(500, 1, 30, True)]
    assert Psaq(schedule="short").stages(small) == [Stage(100, 1, 1, True), Stage(100, 1, 2, True)]
    assert Psaq(iterations=1, flip=False).stages(small) == [Stage(1, 1, 2, False)]


def test_a_model_that_does_not_attend_is_refused(digits_folded: Path) -> None:
    words = r"^psaq needs attention on image patches, and the model has none .*; use --synth procedural$"
    with pytest.raises(ModelError, match=words):
        synthesize(digits_folded, synth="psaq", count=2)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(OptionError, match=r"^psaq: batch=0 must be at least 1$"):
        Psaq(batch=0)
