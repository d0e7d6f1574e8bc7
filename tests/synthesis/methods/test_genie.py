"""GENIE's loss by hand, its generator, and that both descend and go on where they stopped."""

import pytest
import torch

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.generators.latents import GenieGenerator
from dfq_deploy.synthesis.generators.networks import Geometry
from dfq_deploy.synthesis.losses.batch_norm_statistics import LayerStatistics
from dfq_deploy.synthesis.methods.genie import Genie, standard_distance


def layer(*rows: list[float]) -> LayerStatistics:
    return LayerStatistics("bn", *(torch.tensor(row) for row in rows))


def test_the_loss_by_hand() -> None:
    # Running mean, running variance, mean, variance: (9 + 16) / 2 and ((1 - 2)^2 + (3 - 3)^2) / 2; then 0 and 16.
    first = layer([0.0, 0.0], [4.0, 9.0], [3.0, 4.0], [1.0, 9.0])
    second = layer([2.0], [1.0], [2.0], [25.0])
    assert standard_distance([first, second]).item() == pytest.approx(12.5 + 0.5 + 0 + 16, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 15, 18)])
def test_the_generator_makes_images_of_the_models_size(shape: tuple[int, ...]) -> None:
    request = SynthesisRequest(1, shape)
    with torch.random.fork_rng(devices=[]):
        network = GenieGenerator(Geometry(8, shape, channels=4), request)
        images = network(torch.randn(2, 8))
    assert images.shape == (2, *shape)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(shape[0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(images.var((0, 2, 3), correction=0), torch.ones(shape[0]), rtol=1e-2, atol=0)


def test_at_224_pixels_it_is_the_papers() -> None:
    with torch.device("meta"):
        network = GenieGenerator(Geometry(256, (3, 224, 224)), SynthesisRequest(1, (3, 224, 224)))
    assert network.sizes == [(56, 56), (112, 112), (224, 224)]
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    assert shapes["start.weight"] == (128 * 56 * 56, 256)
    assert shapes["middle.weight"] == (64, 128, 3, 3)
    assert shapes["last.weight"] == (3, 64, 3, 3)


def test_latents_and_generator_descend_and_go_on_where_they_stopped() -> None:
    request = SynthesisRequest(4, (3, 8, 8), preprocess=PREPROCESSES["imagenet"])
    whole, half, rest = (Genie(latent=8).parameters(4, request, torch.Generator().manual_seed(0)) for _ in range(3))
    first = {name: weight.detach().clone() for name, weight in whole.network.named_parameters()}
    latents = whole.latents.detach().clone()
    for parameters in (whole, half, rest):
        parameters.begin(6)

    def descend(parameters: object, steps: int) -> None:
        for _ in range(steps):
            parameters.descend((parameters.images()[:, :, 2:5] - 1).square().mean())  # type: ignore[attr-defined]

    start = float((whole.images()[:, :, 2:5] - 1).square().mean().detach())
    descend(whole, 6)
    assert float((whole.images()[:, :, 2:5] - 1).square().mean().detach()) < 0.9 * start
    assert not torch.equal(whole.latents, latents)
    assert not torch.equal(whole.network.start.weight, first["start.weight"])
    descend(half, 4)
    state = half.state()
    descend(half, 1)  # what is kept is a copy
    rest.restore(state)
    descend(rest, 2)
    assert torch.equal(rest.images(), whole.images())
