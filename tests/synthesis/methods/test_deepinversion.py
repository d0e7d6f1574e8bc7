"""DeepInversion on the example's network, with few iterations, and its settings against the paper's."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy.errors import ModelError, OptionError, SamplesError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.loop import Inversion, Stage
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.synthesis.methods import deepinversion
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))


@pytest.fixture(scope="module")
def teacher(digits_bn: Path) -> Twin:
    return Twin.from_model(load(digits_bn))


def request_of(count: int = 12, seed: int = 0, preprocess: Preprocess | None = PIXELS, **more: Any) -> SynthesisRequest:
    return SynthesisRequest(count, (1, 16, 16), 10, preprocess, seed, **more)


@pytest.fixture(scope="module")
def inverted(teacher: Twin) -> Samples:
    """A dozen digits after 80 iterations."""
    return DeepInversion(iterations=80).synthesize([teacher], request_of())


def test_statistics_come_closer(teacher: Twin, inverted: Samples) -> None:
    def distance(images: torch.Tensor) -> float:
        return relative_distance(FeatureStatistics(teacher).run(images)[1])

    start = distance(torch.randn(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    end = distance(torch.from_numpy(inverted.images))
    assert end < 0.5 * start
    assert inverted.figures["statistics_distance"] == pytest.approx(end, rel=0.05)


def test_classes_are_hit(teacher: Twin, inverted: Samples) -> None:
    assert inverted.figures["target_hit"] > 0.7
    scores = teacher(torch.from_numpy(inverted.images))
    assert isinstance(inverted.labels, np.ndarray)
    np.testing.assert_allclose(inverted.labels, torch.softmax(scores, 1).numpy(), atol=0.05)


def test_pixels_keep_to_what_they_can_be(inverted: Samples) -> None:
    low, high = (0 - 0.305) / 0.319, (1 - 0.305) / 0.319
    assert inverted.images.min() >= low - 1e-5
    assert inverted.images.max() <= high + 1e-5
    assert inverted.images.shape == (12, 1, 16, 16)
    assert inverted.images.dtype == np.float32


def test_without_a_preprocess_nothing_is_clipped(teacher: Twin) -> None:
    images = DeepInversion(iterations=2).synthesize([teacher], request_of(preprocess=None)).images
    assert images.max() > (1 - 0.305) / 0.319


def test_the_seed_decides(teacher: Twin) -> None:
    method = DeepInversion(iterations=3)
    first, again, other = (method.synthesize([teacher], request_of(3, seed)).images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.5


def test_the_global_generator_is_left_alone(teacher: Twin) -> None:
    before = torch.get_rng_state()
    DeepInversion(iterations=1).synthesize([teacher], request_of(2))
    assert torch.equal(torch.get_rng_state(), before)


class Recorder:
    """Takes the place of the descent, and keeps what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.targets: list[int] = []
        self.stages: list[tuple[Stage, ...]] = []
        self.peaks: list[float] = []
        monkeypatch.setattr(deepinversion, "Inversion", self.start)

    def start(
        self,
        method: str,
        parameters: Pixels,
        objective: DeepInversionObjective,
        stages: Sequence[Stage],
        generator: torch.Generator,
    ) -> Inversion:
        assert objective.targets is not None
        assert len(objective.targets) == len(parameters.pixels)
        self.sizes.append(len(parameters.pixels))
        self.targets += objective.targets.tolist()
        self.stages.append(tuple(stages))
        rate = parameters.rate(1000)
        assert isinstance(rate, Cosine)
        self.peaks.append(rate.peak)
        return Inversion(method, parameters, objective, [], generator)


@pytest.mark.parametrize(("given", "peak"), [(None, 0.1), (0.02, 0.02)])
def test_the_learning_rate_is_the_papers_or_what_is_given(
    monkeypatch: pytest.MonkeyPatch, teacher: Twin, given: float | None, peak: float
) -> None:
    seen = Recorder(monkeypatch)
    DeepInversion(learning_rate=given).synthesize([teacher], request_of(2))
    assert seen.peaks == [peak]


@pytest.mark.parametrize("count", [7, 10, 23, 200])
def test_every_class_is_asked_for_as_often(monkeypatch: pytest.MonkeyPatch, teacher: Twin, count: int) -> None:
    seen = Recorder(monkeypatch)
    DeepInversion().synthesize([teacher], request_of(count))
    times = [Counter(seen.targets)[label] for label in range(10)]
    assert sum(times) == count
    assert set(times) <= {count // 10, -(-count // 10)}


def test_batches_are_of_one_size(monkeypatch: pytest.MonkeyPatch, teacher: Twin) -> None:
    seen = Recorder(monkeypatch)
    DeepInversion(batch=32, iterations=5).synthesize([teacher], request_of(100))
    assert seen.sizes == [25, 25, 25, 25]
    assert seen.stages == [(Stage(5, 1, 2, True),)] * 4


def test_the_settings_are_the_papers() -> None:
    small = DeepInversion(schedule="paper").weights(request_of())
    assert (small.feature_weight, small.tv_l2, small.l2) == (10, 1e-3, 0)
    large_request = SynthesisRequest(1, (3, 224, 224), 1000)
    large = DeepInversion(schedule="paper").weights(large_request)
    assert (large.feature_weight, large.tv_l2, large.l2) == (0.01, 1e-4, 1e-5)
    assert small.first_multiplier == large.first_multiplier == 10
    assert small.class_weight == large.class_weight == 1
    assert DeepInversion(schedule="paper").stages(request_of()) == [Stage(2000, 1, 2, True)]
    assert DeepInversion(schedule="paper").stages(large_request) == [Stage(2000, 2, 15, True), Stage(1000, 1, 30, True)]


def test_a_short_schedule_is_a_tenth() -> None:
    assert DeepInversion(schedule="short").stages(request_of()) == [Stage(200, 1, 2, True)]
    large = SynthesisRequest(1, (3, 96, 96), 10)
    assert DeepInversion(schedule="short").stages(large) == [Stage(200, 2, 15, True), Stage(100, 1, 30, True)]
    assert DeepInversion(schedule="short").weights(request_of()).feature_weight == 1
    assert DeepInversion(schedule="short").weights(large).feature_weight == 0.01


def test_auto_depends_on_the_device() -> None:
    assert DeepInversion().stages(request_of()) == [Stage(200, 1, 2, True)]
    assert DeepInversion().stages(request_of(device="cuda:0")) == [Stage(2000, 1, 2, True)]


def test_what_is_given_is_kept() -> None:
    method = DeepInversion(iterations=30, feature_weight=0.0, tv_l2=0.5, jitter=0, learning_rate=0.02)
    weights = method.weights(request_of())
    assert (weights.feature_weight, weights.tv_l2) == (0, 0.5)
    assert method.stages(SynthesisRequest(1, (3, 224, 224))) == [Stage(20, 2, 0, True), Stage(10, 1, 0, True)]


@pytest.mark.parametrize(("pooled", "shrinks"), [(True, [2, 1]), (False, [1, 1])])
def test_a_graph_of_one_size_is_not_shrunk(
    monkeypatch: pytest.MonkeyPatch, model_of: Model, pooled: bool, shrinks: list[int]
) -> None:
    ones = np.ones(4, np.float32)
    head = "p = GlobalAveragePool(b) f = Flatten(p)" if pooled else "f = Flatten(b)"
    nodes = f"c = Conv<strides=[16,16]>(x, w) b = BatchNormalization(c, s, s, s, s) {head} y = Gemm(f, v)"
    width = 4 if pooled else 100
    weights = {"w": np.ones((4, 3, 16, 16), np.float32), "s": ones, "v": np.ones((width, 10), np.float32)}
    twin = Twin.from_model(load(model_of("float[n,3,80,80] x", "float[n,10] y", nodes, weights)))
    seen = Recorder(monkeypatch)
    DeepInversion(iterations=3).synthesize([twin], SynthesisRequest(2, (3, 80, 80), 10))
    (stages,) = seen.stages
    assert [stage.shrink for stage in stages] == shrinks
    assert sum(stage.iterations for stage in stages) == 3
    assert stages[0].jitter == (15 if pooled else 30)


def test_a_second_teacher_competes(teacher: Twin, tiny: Model) -> None:
    competitor = Twin.from_model(load(tiny(channels=1, size=16, classes=10)))

    def images(weight: float, *teachers: Twin) -> np.ndarray:
        return DeepInversion(iterations=3, competition=weight).synthesize(teachers, request_of(3)).images

    alone = images(0.0, teacher)
    np.testing.assert_array_equal(images(0.0, teacher, competitor), alone)
    assert not np.array_equal(images(0.2, teacher, competitor), alone)


def test_the_quantized_network_competes_where_no_second_teacher_is_given(teacher: Twin) -> None:
    calls = 0

    def student() -> Callable[[torch.Tensor], torch.Tensor]:
        nonlocal calls
        calls += 1
        return lambda images: (images.flatten(1) @ torch.ones(256, 10)).sin()

    method = DeepInversion(iterations=3, competition=0.2, batch=2)
    found = method.synthesize([teacher], request_of(4, student=student)).images
    assert calls == 1
    assert not np.array_equal(found, replace(method, competition=0.0).synthesize([teacher], request_of(4)).images)


def test_a_second_teacher_that_nobody_looks_at_is_said(teacher: Twin) -> None:
    (note,) = DeepInversion(iterations=1).synthesize([teacher, teacher], request_of(2)).notes
    assert note == "deepinversion uses only the first of the 2 teachers; lis uses several together"
    assert DeepInversion(iterations=1, competition=0.2).synthesize([teacher, teacher], request_of(2)).notes == ()


def test_competition_without_a_rival_is_refused(teacher: Twin) -> None:
    with pytest.raises(ModelError, match=r"competition=0\.2 needs a network to compete with.*; give the model and"):
        DeepInversion(competition=0.2).synthesize([teacher], request_of())


def test_without_classes_the_statistics_alone_count(teacher: Twin) -> None:
    samples = DeepInversion(iterations=2).synthesize([teacher], SynthesisRequest(4, (1, 16, 16), None))
    assert samples.labels is None
    assert set(samples.figures) == {"statistics_distance"}


def test_without_normalization_the_way_out_is_said(digits_folded: Path) -> None:
    twin = Twin.from_model(load(digits_folded))
    words = "deepinversion needs BatchNormalization, and none is left in the model .* as --teacher, or use --synth proc"
    with pytest.raises(ModelError, match=words):
        DeepInversion().synthesize([twin], request_of())


def test_images_that_are_no_numbers_are_said_to_be(teacher: Twin) -> None:
    with pytest.raises(SamplesError, match="the images became NaN; lower learning_rate or the losses' weights"):
        DeepInversion(iterations=2, feature_weight=float("nan")).synthesize([teacher], request_of(2))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("schedule 'long' is not one of auto, paper, short", {"schedule": "long"}),
        ("iterations=0 must be at least 1", {"iterations": 0}),
        ("batch=0 must be at least 1", {"batch": 0}),
    ],
)
def test_wrong_settings_are_refused(words: str, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"^deepinversion: {words}$"):
        DeepInversion(**options)


def test_progress_tells_the_terms(teacher: Twin) -> None:
    seen: list[dict[str, float]] = []

    class Watch:
        def start(self, title: str, total: int) -> None:
            assert (title, total) == ("deepinversion", 24)

        def advance(self, steps: int = 1, **figures: float) -> None:
            seen.append(figures)

    method = DeepInversion(iterations=12, batch=2)
    method.synthesize([teacher], request_of(4, preprocess=PREPROCESSES["raw"]), Watch())
    assert [index % 12 for index, figures in enumerate(seen) if figures] == [9, 11] * 2  # the tenth and the last
    assert all(set(figures) == {"feature", "distance", "class"} for figures in seen if figures)
