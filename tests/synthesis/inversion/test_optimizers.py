"""Learning rates worked out by hand or against torch's, and Adam that goes on where it stopped."""

import numpy as np
import pytest
import torch

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Decay, LearningRate, Pixels, Plateau, noise, pixel_bounds

CPU = torch.device("cpu")


def rates(rate: LearningRate, count: int) -> list[float]:
    return [float(rate.at(step)) for step in range(count)]


def test_a_cosine_warms_up_and_falls() -> None:
    short = rates(Cosine(2.0, 20), 20)
    # A tenth of 20 iterations warms up; then half a cosine over the other 18.
    assert short[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert short[11] == pytest.approx(1.0)
    assert short[8] == pytest.approx(2 * 0.75)
    assert short[19] == pytest.approx(1 + np.cos(np.pi * 17 / 18))
    long = rates(Cosine(1.0, 2000), 2000)
    assert long[49] == pytest.approx(0.5)
    assert long[100] == pytest.approx(1)
    assert rates(Cosine(3.0, 1), 1) == pytest.approx([3.0])


def test_a_decay_falls_in_steps() -> None:
    assert rates(Decay(0.01, 0.5, 3), 7) == pytest.approx([0.01] * 3 + [0.005] * 3 + [0.0025])


def test_a_plateau_is_that_of_torch() -> None:
    adam = torch.optim.Adam([torch.zeros(1)], lr=0.5)
    wanted = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, min_lr=1e-4, patience=3)
    found = Plateau(0.5, 3, 1e-4, CPU)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for step in range(200):
        loss = torch.rand((), generator=generator) + 10 / (step + 1)
        wanted.step(float(loss))
        found.update(loss)
        rate = float(found.at(step))
        assert rate == pytest.approx(adam.param_groups[0]["lr"], rel=1e-5)
        seen.add(round(rate, 6))
    assert len(seen) == 5  # 0.5, 0.05, 0.005, 0.0005, 0.0001


@pytest.mark.parametrize("plateau", [False, True])
def test_adam_is_that_of_torch_and_goes_on_where_it_stopped(plateau: bool) -> None:
    def pixels() -> Pixels:
        def rate(iterations: int) -> LearningRate:
            return Plateau(0.3, 1, 1e-4, CPU) if plateau else Cosine(0.3, iterations)

        return Pixels(torch.linspace(-1, 2, 6), rate, (0.5, 0.9), None)

    def descend(parameters: Pixels, steps: int) -> None:
        for _ in range(steps):
            parameters.descend((parameters.images() ** 4).sum())

    whole, half, rest = pixels(), pixels(), pixels()
    for parameters in (whole, half, rest):
        parameters.begin(10)
    descend(whole, 10)
    descend(half, 4)
    state = half.state()
    descend(half, 2)  # what is kept is a copy
    rest.restore(state)
    descend(rest, 6)
    assert torch.equal(rest.pixels, whole.pixels)

    if not plateau:
        plain = torch.linspace(-1, 2, 6).requires_grad_()
        adam = torch.optim.Adam([plain], betas=(0.5, 0.9))
        for step in range(10):
            adam.param_groups[0]["lr"] = Cosine(0.3, 10).at(step)
            adam.zero_grad()
            (plain**4).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
        torch.testing.assert_close(whole.pixels, plain)


def test_pixels_are_clipped_channel_by_channel() -> None:
    request = SynthesisRequest(5, (3, 4, 4), preprocess=PREPROCESSES["imagenet"])
    bounds = pixel_bounds(request)
    assert bounds is not None
    torch.testing.assert_close(bounds[0].flatten(), torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    parameters = Pixels(
        100 * noise(5, request, torch.Generator().manual_seed(0)), lambda count: Cosine(0.0, count), (0.5, 0.9), bounds
    )
    parameters.begin(1)
    parameters.descend(parameters.images().sum())
    torch.testing.assert_close(parameters.pixels.amin((0, 2, 3)), bounds[0].flatten())
    torch.testing.assert_close(parameters.pixels.amax((0, 2, 3)), bounds[1].flatten())
