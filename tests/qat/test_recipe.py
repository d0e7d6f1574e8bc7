"""The schedule in numbers."""

from math import cos, pi

import pytest

from dfq_deploy.errors import OptionError
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


def test_a_cpu_takes_fewer_steps_and_fewer_still_of_large_pictures() -> None:
    assert Recipe.suited_to((3, 32, 32), "cuda:0") == Recipe() == Recipe.suited_to((7,), "cuda")
    shapes = [(3, 32, 32), (7,), (3, 224, 224), (224, 224, 3)]
    slow = [Recipe.suited_to(shape, "cpu") for shape in shapes]
    assert [(recipe.steps, recipe.batch) for recipe in slow] == [(1000, 64), (1000, 64), (500, 32), (500, 32)]
    assert [recipe.augmentation.shift for recipe in slow] == [4, 4, 16, 16]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"step_rate": -1.0}, "step_rate=-1 must not be below 0"),
        ({"fresh": 1.5}, "fresh=1.5 must be fractions"),
        ({"optimizer": "lion"}, "no optimizer 'lion'; choose one of adam, sgd"),
    ],
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Recipe(**wrong)  # type: ignore[arg-type]
