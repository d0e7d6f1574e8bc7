"""Generator networks: any size, within the pixels, classes told apart."""

import numpy as np
import pytest
import torch
from torch import nn

from dfq_deploy.errors import ModelError
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.synthesis.generators.networks import ClassNorm, Geometry, ImageGenerator, InputSpace


def test_the_papers_sizes() -> None:
    assert Geometry(100, (3, 32, 32)).sizes == [(8, 8), (16, 16), (32, 32)]
    assert Geometry(100, (3, 224, 224)).sizes == [(56, 56), (112, 112), (224, 224)]


def test_large_images_are_doubled_more_often() -> None:
    assert Geometry(100, (3, 480, 640)).sizes[0] == (30, 40)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 17), (4, 1, 5), (2, 7, 300)])
def test_any_size_and_number_of_channels(shape: tuple[int, ...]) -> None:
    network = ImageGenerator(Geometry(5, shape, channels=4), PREPROCESSES["zero-one"])
    images = network(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert images.dtype == torch.float32


def test_the_papers_network() -> None:
    network = ImageGenerator(Geometry(100, (3, 32, 32)), None)
    weights = {name: tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")}
    assert weights["start.weight"] == (128 * 8 * 8, 100)
    assert weights["convolutions.0.weight"] == (128, 128, 3, 3)
    assert weights["convolutions.1.weight"] == (64, 128, 3, 3)
    assert weights["last.weight"] == (3, 64, 3, 3)
    norms = [module for module in network.modules() if isinstance(module, ClassNorm)]
    assert [norm.norm.eps for norm in norms] == [1e-5, 0.8, 0.8]


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ModelError, match=r"a generator makes images \(C, H, W\), and the model's input is \(128,\)"):
        Geometry(100, (128,))


@pytest.mark.parametrize("name", ["raw", "zero-one", "minus-one-one", "imagenet"])
def test_images_keep_to_the_pixels_and_look_like_photographs(name: str) -> None:
    preprocess = PREPROCESSES[name]
    space = InputSpace(preprocess, 3)
    images = space(torch.randn(4, 3, 50, 50, generator=torch.Generator().manual_seed(0)) * 1.5).numpy()
    low, high = (bound[:, None, None] for bound in preprocess.bounds(3))
    assert (images >= low).all()
    assert (images <= high).all()
    pixels = preprocess.pixels(images) / 255
    assert pixels.mean() == pytest.approx(0.45, abs=0.05)
    assert pixels.std() == pytest.approx(0.3, abs=0.06)


def test_a_normalised_input_gets_mean_0_and_variance_1_as_in_the_papers() -> None:
    channels = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).clamp(-1.5, 1.5)
    for preprocess in (PREPROCESSES["imagenet"], PREPROCESSES["cifar10"], None):
        torch.testing.assert_close(InputSpace(preprocess, 3)(channels), channels)


def test_without_a_preprocess_nothing_is_clipped() -> None:
    far = torch.full((1, 1, 1, 1), 1e6)
    assert InputSpace(None, 1)(far).item() == 1e6


def test_clipped_pixels_can_come_back_but_go_no_further() -> None:
    values = torch.tensor([-5.0, -5.0, 0.0, 5.0, 5.0]).reshape(1, 1, 1, 5).requires_grad_()
    images = InputSpace(Preprocess((0.5,), (0.3,)), 1)(values)
    # Descent follows minus the gradient: +1 pushes down, -1 up.
    images.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]).reshape(1, 1, 1, 5))
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0, -1, 1, 1, 0]


def test_class_norm_has_a_gain_and_an_offset_for_each_class() -> None:
    norm = ClassNorm(1, 2, eps=1e-9)
    assert norm.gains is not None
    assert norm.offsets is not None
    with torch.no_grad():
        norm.gains.copy_(torch.tensor([[2.0], [4.0]]))
        norm.offsets.copy_(torch.tensor([[10.0], [20.0]]))
    features = torch.tensor([-1.0, 1.0, -1.0, 1.0]).reshape(4, 1, 1, 1)  # mean 0, variance 1
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75], [0.5, 0.5]])
    # The mixed ones: gains 0.5 + 3 and 1 + 2, offsets 2.5 + 15 and 5 + 10.
    assert norm(features, labels).flatten().tolist() == pytest.approx([8, 24, 17.5 - 3.5, 15 + 3])
    with pytest.raises(ValueError, match="needs labels"):
        norm(features, None)


def test_in_evaluation_a_sample_does_not_depend_on_the_others() -> None:
    network = ImageGenerator(Geometry(6, (3, 9, 9), channels=4), None)
    latents = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    network(latents)
    network.eval()
    with torch.no_grad():
        together, alone = network(latents), network(latents[2:3])
    np.testing.assert_allclose(together[2:3].numpy(), alone.numpy(), atol=1e-5)


def test_the_generator_takes_every_weight_along() -> None:
    network = ImageGenerator(Geometry(6, (3, 8, 8), channels=4, classes=3), PREPROCESSES["imagenet"])
    labels = nn.functional.one_hot(torch.tensor([0, 1, 2, 0])).float()
    network(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), labels).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
