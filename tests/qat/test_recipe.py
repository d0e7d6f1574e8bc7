"""The schedule in numbers."""

from math import cos, pi

import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.qat.recipe import Recipe


def test_steps_of_a_schedule() -> None:
    assert Recipe(steps=70).total(1000) == 70
    assert Recipe(epochs=3, batch=64).total(1000) == 3 * 15
    assert Recipe(epochs=3, batch=64).total(1000, processes=2) == 3 * 7
    assert Recipe(epochs=3, batch=64).total(20) == 3


def test_rates_rise_and_fall() -> None:
    recipe = Recipe(warmup=0.1)
    assert recipe.share(0, 100) == pytest.approx(0.1)
    assert recipe.share(9, 100) == pytest.approx(0.5 * (1 + cos(0.09 * pi)))
    assert recipe.share(50, 100) == pytest.approx(0.5)
    assert 0 < recipe.share(99, 100) < 0.001
    assert Recipe(warmup=0.0).share(0, 100) == 1


def test_large_pictures_take_fewer_steps_on_a_cpu() -> None:
    assert Recipe.suited_to((3, 32, 32), "cpu") == Recipe() == Recipe.suited_to((7,), "cpu")
    large = [Recipe.suited_to((3, 224, 224), device) for device in ("cpu", "cuda:0")]
    assert [(recipe.steps, recipe.batch) for recipe in large] == [(500, 32), (4000, 128)]
    assert large[0] == Recipe.suited_to((224, 224, 3), "cpu")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"step_rate": -1.0}, "step_rate=-1 must not be below 0"),
        ({"fresh": 1.5}, "fresh=1.5 are parts"),
        ({"optimizer": "lion"}, "'lion' is none of adam, sgd"),
    ],
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Recipe(**wrong)  # type: ignore[arg-type]
