"""Each check of a synthesis method catches one that is broken in just that way."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfq_deploy import Samples
from dfq_deploy.plugins.contracts import Source, Student, SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.synthesis.methods.gdfq import Gdfq
from dfq_deploy.testing import check_synthesizer
from dfq_deploy.twin import Twin


@dataclass(frozen=True)
class Good(Synthesizer):
    """Gaussian noise, with a fault where ``breaks`` says which."""

    breaks: Callable[[Samples, SynthesisRequest], Samples] | None = None
    spoils: Callable[[Sequence[Twin]], object] | None = None

    summary: ClassVar[str] = "noise for a test"
    needs_statistics: ClassVar[bool] = True

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        rng = np.random.default_rng(request.seed)
        progress.start("noise", 2)
        progress.advance()
        if self.spoils:
            self.spoils(teachers)
        samples = Samples(rng.normal(0, 1, (request.count, *request.shape)).astype(np.float32))
        progress.advance()
        return self.breaks(samples, request) if self.breaks else samples


def images(change: Callable[[NDArray[np.float32], SynthesisRequest], NDArray[Any]]) -> Good:
    return Good(lambda samples, request: replace(samples, images=change(samples.images, request)))


def labels(make: Callable[[SynthesisRequest], NDArray[Any]]) -> Good:
    return Good(lambda samples, request: replace(samples, labels=make(request)))


def teacher(spoil: Callable[[Sequence[Twin]], object]) -> Good:
    return Good(spoils=spoil)


def shift(teachers: Sequence[Twin]) -> None:
    next(iter(teachers[0].parameters())).data.add_(1)


BROKEN: dict[str, tuple[Synthesizer, str]] = {
    "count": (images(lambda made, _: made[:-1].repeat(3, axis=0)), r"makes 6 samples where 3 are asked for"),
    "shape": (
        images(lambda made, _: made.transpose(0, 1, 3, 2)),
        r"shape \(3, 16, 12\) where request.shape is \(3, 12, 16\)",
    ),
    "dtype": (images(lambda made, _: made.astype(np.float64)), "makes float64 samples; float32 is needed"),
    "own randomness": (
        images(lambda made, _: made + np.float32(np.random.default_rng().random())),
        "other samples for the same request",
    ),
    "seed": (
        images(lambda made, request: np.ones_like(made) if request.count > 1 else made),
        "makes the same samples for seeds 0 and 1",
    ),
    "probabilities": (
        labels(lambda request: np.ones((request.count, request.classes or 1), np.float32)),
        "soft labels are no probabilities",
    ),
    "classes": (
        labels(lambda request: np.full((request.count, 2), 0.5, np.float32)),
        r"soft labels are float32 \(3, 2\); float32 \(N, classes\) is needed",
    ),
    "type of labels": (labels(lambda request: np.zeros(request.count, np.int32)), "class labels are int32; int64"),
    "figures": (
        Good(lambda samples, _: replace(samples, figures={"distance": float("nan")})),
        "its figure 'distance' is nan, which JSON cannot hold",
    ),
    "torch's generator": (teacher(lambda _: torch.rand(1)), "changes the global generator of torch"),
    "numpy's generator": (
        teacher(lambda _: np.random.random()),  # noqa: NPY002 - the fault
        "changes the global generator of numpy",
    ),
    "python's generator": (teacher(lambda _: random.random()), "changes the global generator of random"),
    "teacher": (teacher(shift), "changes 'conv.weight' of the teacher; work on a copy"),
}


def test_what_keeps_the_contract_passes() -> None:
    check_synthesizer(Good)
    check_synthesizer(Good())


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_named(fault: str) -> None:
    method, words = BROKEN[fault]
    with pytest.raises(AssertionError, match=f"^Good: .*{words}"):
        check_synthesizer(method)


@dataclass(frozen=True)
class Duck:
    summary: ClassVar[str] = "looks like one"


class Plain(Synthesizer):
    summary: ClassVar[str] = "no dataclass"


@dataclass
class Melting(Synthesizer):
    strength: int = 1
    summary: ClassVar[str] = "not frozen"


@dataclass(frozen=True)
class Demanding(Synthesizer):
    strength: int
    summary: ClassVar[str] = "an option without a default"


@dataclass(frozen=True)
class Wordy(Good):
    summary: ClassVar[str] = "two\nlines"


@dataclass(frozen=True)
class Vague(Good):
    needs_twin: ClassVar[Any] = "sometimes"


@dataclass(frozen=True)
class Unscheduled(Good):
    schedule: str = "slow"


@dataclass(frozen=True)
class Learning(Good):
    seen: list[int] = field(default_factory=list)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        self.seen.append(request.seed)
        return super().synthesize(teachers, request, progress)


@dataclass(frozen=True)
class Overrunning(Good):
    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        progress.start("half", 1)
        progress.advance(2)
        return super().synthesize(teachers, request, progress)


@dataclass(frozen=True)
class Stubborn(Good):
    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        try:
            return super().synthesize(teachers, request, progress)
        except KeyboardInterrupt:
            return super().synthesize(teachers, request)


@dataclass(frozen=True)
class Forgetful(Good):
    """Keeps its first half in the journal, and makes another one of it."""

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        resumed = request.journal is not None and request.journal.load_batch(0) is not None
        if request.journal is not None:
            request.journal.save_batch(0, {"step": 1})
        made = super().synthesize(teachers, request, progress)
        return replace(made, images=made.images + np.float32(resumed))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Duck, "Duck: does not subclass dfq_deploy.plugins.contracts.Synthesizer"),
        (Plain, "Plain: is no dataclass"),
        (Melting, "Melting: its options can be changed after it is made"),
        (Demanding, r"Demanding: cannot be made without arguments .*'strength'.*every option needs a default"),
        (Wordy, "Wordy: summary='two.*one line of text is needed"),
        (Vague, "Vague: needs_twin='sometimes' is neither True nor False"),
        (Unscheduled, "Unscheduled: schedule='slow' is none of auto, paper, short"),
        (Learning, r"Learning: its option seen was \[\] and is \[0, 0, 1"),
        (Overrunning, "Overrunning: reports 2 steps of 'half', which it said has 1"),
        (Stubborn, "Stubborn: goes on after Ctrl-C"),
        (Forgetful, "Forgetful: makes other samples after an interruption"),
    ],
)
def test_a_form_that_no_plugin_has_is_named(method: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=f"^{words}"):
        check_synthesizer(method)


class Wrapped(Source):
    """A source of GDFQ's with one fault."""

    def __init__(self, source: Source, fault: str) -> None:
        self._source, self._fault, self._count = source, fault, 0

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._count += self._fault == "remembers"
        made, known = self._source.draw(count + (self._fault == "count"), generator)
        return made + self._count, known

    def adapt(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, float]:
        terms: dict[str, Any] = self._source.adapt(students, generator)
        return {name: torch.tensor(value) for name, value in terms.items()} if self._fault == "terms" else terms  # type: ignore[misc]

    def state(self) -> dict[str, Any]:
        return {**self._source.state(), **({"source": object()} if self._fault == "state" else {})}

    def restore(self, state: Any) -> None:
        if self._fault != "restore":
            self._source.restore(state)


@dataclass(frozen=True)
class Faulty(Gdfq):
    fault: str = ""

    def prepare(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        return Wrapped(super().prepare(teachers, request, progress), self.fault)

    def source(self, teachers: Sequence[Twin], request: SynthesisRequest) -> Source:
        return Wrapped(super().source(teachers, request), self.fault)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("count", r"draws samples of shape \(5, 3, 12, 16\), not \(4, 3, 12, 16\)"),
        ("remembers", "draws other samples from the same generator"),
        ("state", "its state holds more than tensors and plain values"),
        ("restore", r"draws other samples after restore\(state\(\)\)"),
        ("terms", "adapt returns .*; the terms of the loss by name are needed, as floats"),
    ],
)
def test_a_fault_of_a_source_is_named(fault: str, words: str) -> None:
    method = Faulty(fault=fault, iterations=2, warmup=1, batch=2, channels=4)
    with pytest.raises(AssertionError, match=f"^Faulty: {words}"):
        check_synthesizer(method)
