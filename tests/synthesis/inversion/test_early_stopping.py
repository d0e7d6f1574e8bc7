"""When a descent has done enough."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from dfq_deploy import synthesize
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import EarlyStopping, SynthesisRequest
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.early_stopping import DEFAULT, ConvergenceCheck, range_function
from dfq_deploy.synthesis.inversion.loop import Inversion, Stage
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.synthesis.methods.noise import Noise
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


class Schedule:
    """As much of an inversion as a watch looks at."""

    def __init__(self, *iterations: int) -> None:
        self.stages = [Stage(count) for count in iterations]
        self.iterations = sum(iterations)


def watch_of(
    ends: Callable[[int], float], *iterations: int, tolerance: float = 0.01
) -> tuple[ConvergenceCheck, list[int]]:
    """A watch on ranges [0, ends(n)] and [-1, 1], where n counts the checks, and the steps at which it checked."""
    checked: list[int] = []

    def meter(images: Tensor) -> Tensor:
        checked.append(int(images))
        return torch.tensor([[0.0, ends(len(checked))], [-1.0, 1.0]])

    return ConvergenceCheck(EarlyStopping(meter, tolerance), cast(Inversion, Schedule(*iterations)), 0), checked


def stopped(watch: ConvergenceCheck, iterations: int) -> int | None:
    return next((step for step in range(1, iterations + 1) if watch(step, torch.tensor(step))), None)


def test_two_calm_checks_end_it() -> None:
    # Moves of 50, 4, 0.8 and 0.8 %, halved, since the second tensor rests: 25, 2, 0.4 and 0.4 %.
    watch, checked = watch_of(lambda n: [1, 2, 2.0833, 2.1, 2.117, 9][n - 1], 200)
    assert stopped(watch, 200) == 50
    assert checked == [10, 20, 30, 40, 50]
    (sentence,) = watch.early_stopping.messages
    assert sentence == (
        "batch 1 stopped after 50 of 200 iterations: the ranges of 2 tensors moved by less than 1 % of their span in 2 "
        "checks in a row, 10 iterations apart"
    )


def test_a_restless_check_counts_from_the_start() -> None:
    watch, checked = watch_of(lambda n: [1, 1, 2, 2, 2][n - 1], 100)
    assert stopped(watch, 100) == 25
    assert checked == [5, 10, 15, 20, 25]


def test_what_does_not_rest_runs_to_its_end() -> None:
    watch, checked = watch_of(lambda n: 2.0**n, 40)
    assert stopped(watch, 40) is None
    assert checked == list(range(2, 40, 2))
    assert watch.early_stopping.messages == []


def test_only_the_last_stage_is_looked_at() -> None:
    watch, checked = watch_of(lambda n: 1.0, 60, 40)
    assert stopped(watch, 100) == 66
    assert checked == [62, 64, 66]


def test_the_meter_reads_what_layers_read(model_of: Model) -> None:
    weights = {"w": np.array([[2.0], [0.0]], np.float32), "v": np.array([[3.0]], np.float32)}
    twin = Twin.from_model(load(model_of("float[n,2] x", "float[n,1] y", "h = MatMul(x, w) y = MatMul(h, v)", weights)))
    found = range_function(twin)(torch.tensor([[1.0, 9.0], [-0.5, 9.0]]))
    assert found.tolist() == [[-1, 2], [-3, 6]]


def test_a_method_stops_and_says_so(digits_bn: Path) -> None:
    method = DeepInversion(iterations=20, batch=2)
    early = synthesize(digits_bn, synth=method, count=4, tolerance=0.9)
    assert [note.split(":")[0] for note in early.notes] == [
        f"batch {n} stopped after 3 of 20 iterations" for n in (1, 2)
    ]
    assert not np.array_equal(early.images, synthesize(digits_bn, synth=method, count=4).images)
    late = synthesize(digits_bn, synth=method, count=4, tolerance=1e-9)
    assert late.notes == ()
    np.testing.assert_array_equal(late.images, synthesize(digits_bn, synth=method, count=4).images)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1])
def test_a_tolerance_beyond_its_limits_is_refused(tolerance: float) -> None:
    meter: Any = None
    with pytest.raises(OptionError, match=r"^tolerance=.* must lie between 0 and 1, e\.g\. 0\.01$"):
        EarlyStopping(meter, tolerance)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (DeepInversion(schedule="paper"), DEFAULT),
        (DeepInversion(schedule="short"), None),
        (DeepInversion(schedule="paper", iterations=9), None),
        (Noise(), None),
    ],
)
def test_auto_suits_the_schedule(
    digits_bn: Path, monkeypatch: pytest.MonkeyPatch, method: Any, expected: float | None
) -> None:
    seen: list[float | None] = []

    def synthesize_nothing(self: Any, teachers: Any, request: SynthesisRequest, progress: Any) -> Samples:
        seen.append(None if request.early_stopping is None else request.early_stopping.tolerance)
        return Samples(np.zeros((1, 1, 16, 16), np.float32))

    monkeypatch.setattr(type(method), "synthesize", synthesize_nothing)
    synthesize(digits_bn, synth=method, count=1, tolerance="auto")
    assert seen == [expected]
