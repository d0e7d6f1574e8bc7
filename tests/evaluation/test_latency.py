"""Short measurements of speed, on a clock that the test moves."""

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest

from dfq_deploy.evaluation import latency
from dfq_deploy.evaluation.latency import BLOCKS, CLEAR_FULL, FULL, speed_of
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

SAMPLES = Samples(np.zeros((2, 3), np.float32))


class Clock:
    """Time that passes only where something runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def runner(self, seconds: Callable[[int], float], batch: int | None = None) -> Runner:
        """What takes ``seconds(n)`` at its n-th run."""
        clock = self

        class Timed:
            def __init__(self) -> None:
                self.batch, self.runs = batch, 0

            def feed(self, _: Samples) -> list[object]:
                clock.now += seconds(self.runs)
                self.runs += 1
                return []

        return cast(Runner, Timed())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    timer = Clock()
    monkeypatch.setattr(latency, "time", timer)
    return timer  # type: ignore[return-value]


def test_a_small_difference_takes_more_runs(clock: Clock) -> None:
    speed = speed_of(clock.runner(lambda _: 0.0011), clock.runner(lambda _: 0.001), SAMPLES)
    assert speed is not None
    assert speed.pairs == BLOCKS * FULL


def test_it_ends_as_soon_as_the_faster_one_is_known(clock: Clock) -> None:
    speed = speed_of(clock.runner(lambda _: 0.002), clock.runner(lambda _: 0.001), SAMPLES)
    assert speed is not None
    assert (speed.batch, speed.pairs) == (1, BLOCKS * CLEAR_FULL)
    assert (speed.float_ms, speed.quantized_ms) == pytest.approx((2.0, 1.0))
    assert (speed.ratio, speed.low, speed.high) == pytest.approx((2.0, 2.0, 2.0))


def test_other_work_on_the_machine_changes_little(clock: Clock) -> None:
    rng = np.random.default_rng(0)
    busy = rng.random((2, 4000)) < 0.4
    speed = speed_of(
        clock.runner(lambda run: 0.010 if busy[0, run] else 0.002),
        clock.runner(lambda run: 0.090 if busy[1, run] else 0.001),
        SAMPLES,
    )
    assert speed is not None
    assert speed.ratio == pytest.approx(2.0)
    assert speed.low > 1.05  # where the plain median of all ratios is anything


def test_equal_ones_are_timed_for_longer(clock: Clock) -> None:
    speed = speed_of(clock.runner(lambda _: 0.01), clock.runner(lambda _: 0.01), SAMPLES, seconds=1.0)
    assert speed is not None
    assert clock.now == pytest.approx(3.0, abs=0.1)
    assert (speed.low, speed.high) == pytest.approx((1.0, 1.0))


def test_slow_ones_run_five_times(clock: Clock) -> None:
    speed = speed_of(clock.runner(lambda _: 30.0), clock.runner(lambda _: 10.0), SAMPLES)
    assert speed is not None
    assert speed.pairs == 5
    assert speed.ratio == pytest.approx(3.0)


def test_fixed_batches(clock: Clock) -> None:
    two = speed_of(clock.runner(lambda _: 0.02, batch=2), clock.runner(lambda _: 0.01), SAMPLES)
    assert two is not None
    assert two.batch == 2
    other = speed_of(clock.runner(lambda _: 0.02, batch=2), clock.runner(lambda _: 0.01, batch=1), SAMPLES)
    assert other is None
