"""The loop: stages, augmentation, stopping, and going on where it stopped."""

import pytest
import torch
from torch import Tensor

from dfq_deploy.errors import SamplesError
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels


class Bright(Objective):
    """Wants images of 1, and keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def loss(self, seen: Tensor, generator: torch.Generator) -> Loss:
        self.seen.append(seen.detach().clone())
        drawn = torch.rand((), generator=generator)
        return Loss(((seen - 1) ** 2).mean() * (1 + drawn), dict)

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        return None, {}


STAGES = (Stage(4, 2, 1, True), Stage(5, 1, 2, True))


def inversion(stages: tuple[Stage, ...] = STAGES) -> Inversion:
    generator = torch.Generator().manual_seed(3)
    pixels = Pixels(torch.randn(2, 1, 6, 6, generator=generator), lambda count: Cosine(0.1, count), (0.5, 0.9), None)
    return Inversion("test", pixels, Bright(), stages, generator)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8])
def test_it_goes_on_where_it_stopped(stop: int) -> None:
    whole, half, rest = inversion(), inversion(), inversion()
    whole.run()
    half.run(after=lambda step, _: step == stop)
    assert half.step == stop
    rest.restore(half.state())
    rest.run()
    assert rest.step == rest.iterations == 9
    assert torch.equal(rest.images, whole.images)


def test_a_state_is_a_copy() -> None:
    run = inversion()
    run.run(after=lambda step, _: step == 3)
    state = run.state()
    kept = state["canvas"]["pixels"].clone()
    run.run()
    assert torch.equal(state["canvas"]["pixels"], kept)


def test_what_watches_sees_each_step_and_the_images_after_it() -> None:
    run = inversion()
    steps = []

    def watch(step: int, images: Tensor) -> bool:
        assert torch.equal(images, run.images)
        assert not images.requires_grad
        steps.append(step)
        return False

    run.run(after=watch)
    assert steps == list(range(1, 10))


def test_coarse_stages_see_shrunk_images() -> None:
    run = inversion()
    run.run()
    assert isinstance(run.objective, Bright)
    assert [tuple(seen.shape[2:]) for seen in run.objective.seen] == [(3, 3)] * 4 + [(6, 6)] * 5


def test_images_are_shifted_and_mirrored_at_random() -> None:
    run = inversion((Stage(40, 1, 1, True),))
    run.parameters = Pixels(torch.arange(9.0).reshape(1, 1, 3, 3), lambda count: Cosine(0.0, count), (0.5, 0.9), None)
    run.run()
    plain = torch.arange(9.0).reshape(1, 1, 3, 3)
    possible = [
        side
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
        for side in [plain.roll((y, x), (2, 3))]
        for side in (side, side.flip(3))
    ]
    assert isinstance(run.objective, Bright)
    found = {next(i for i, p in enumerate(possible) if torch.equal(p, seen)) for seen in run.objective.seen}
    assert len(found) > 10  # of the 18 that there are
    still = inversion((Stage(5),))
    still.parameters = Pixels(plain.clone(), lambda count: Cosine(0.0, count), (0.5, 0.9), None)
    still.run()
    assert isinstance(still.objective, Bright)
    assert all(torch.equal(seen, plain) for seen in still.objective.seen)


def test_nan_is_said() -> None:
    run = inversion()
    run.parameters = Pixels(torch.full((1, 1, 6, 6), float("nan")), lambda count: Cosine(0.1, count), (0.5, 0.9), None)
    with pytest.raises(SamplesError, match="test: the images became NaN; lower learning_rate"):
        run.run()
