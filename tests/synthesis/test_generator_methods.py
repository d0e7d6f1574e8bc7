"""The methods with generators, each on the example's network with a schedule of seconds."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy.errors import ModelError, OptionError, SamplesError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import Student, SynthesisRequest
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare, student_maker
from dfq_deploy.quantization.fake_quant import student_function
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.generators.method import GeneratorMethod, draw_samples
from dfq_deploy.synthesis.generators.training import GeneratorSource
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.synthesis.methods.adversarial import Adversarial
from dfq_deploy.synthesis.methods.dfqf import Dfqf
from dfq_deploy.synthesis.methods.gdfq import Gdfq
from dfq_deploy.synthesis.methods.noise import Noise
from dfq_deploy.synthesis.methods.qimera import Qimera
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin import Twin
from dfq_deploy.twin.teacher import teacher_of
from examples.digits.data import PREPROCESS, training

Model = Callable[..., onnx.ModelProto]

QUICK: dict[str, Any] = {"schedule": "short", "batch": 32, "channels": 16, "learning_rate": 1e-2}
METHODS: dict[str, GeneratorMethod] = {
    "gdfq": Gdfq(**QUICK, iterations=100),
    "qimera": Qimera(**QUICK, iterations=100),
    "adversarial": Adversarial(**QUICK, iterations=60, warmup=50),
    "dfqf": Dfqf(**QUICK, iterations=110, warmup=100),
}

every_method = pytest.mark.parametrize("name", METHODS)


class Digits:
    """The example's network, and what the methods make of it."""

    def __init__(self, folder: Path) -> None:
        self.model = load(folder / "digits.onnx")
        self.teacher = teacher_of(load(folder / "digits_bn.onnx"), {}, "cpu")
        plain = SynthesisRequest(64, (1, 16, 16), 10, PREPROCESS)
        maker = student_maker(self.model, find_target("cpu"), Bits.parse("w4a4"))
        self.request = replace(plain, student=partial(maker, plain, {}))
        self.trained = cache(self._trained)
        self.samples = cache(self._samples)

    def _trained(self, name: str) -> GeneratorSource:
        return METHODS[name].train([self.teacher], self.request)

    def _samples(self, name: str) -> Samples:
        return draw_samples(self.trained(name), self.request)

    def distance(self, images: np.ndarray) -> float:
        """Of the statistics from the teacher's."""
        return relative_distance(FeatureStatistics(self.teacher).run(torch.from_numpy(images))[1])

    def signal_to_noise(self, samples: Samples, bits: str) -> float:
        """In dB: the scores of the network that is calibrated with ``samples`` on 300 real digits."""
        found = encode(
            prepare(self.model, find_target("cpu"), Bits.parse(bits)),
            find_plugin("calibrators", "mse")(),
            samples,
            PREPROCESS,
        )
        images = torch.from_numpy(PREPROCESS.apply(training().images[:300]))
        quantized = student_function(found.prepared.model, found.encodings, {}, "cpu")(images)
        wanted = self.teacher(images)
        assert isinstance(wanted, torch.Tensor)
        return 10 * float(torch.log10(wanted.square().sum() / (quantized - wanted).square().sum()))


@pytest.fixture(scope="module")
def digits(checkout: Path) -> Digits:
    return Digits(checkout / "examples/digits")


@every_method
def test_the_statistics_come_closer(digits: Digits, name: str) -> None:
    untrained = METHODS[name].build([digits.teacher], digits.request)
    before = digits.distance(draw_samples(untrained, digits.request).images)
    samples = digits.samples(name)
    after = digits.distance(samples.images)
    assert after < before / 3
    assert samples.figures["statistics_distance"] == pytest.approx(after, rel=0.3)


@every_method
def test_they_calibrate_better_than_noise(digits: Digits, name: str) -> None:
    uniform = replace(Noise().synthesize([], digits.request), method="noise")
    samples = replace(digits.samples(name), method=name)
    for bits, gain in (("w8a8", 4), ("w4a4", 3)):
        assert digits.signal_to_noise(samples, bits) > digits.signal_to_noise(uniform, bits) + gain


@every_method
def test_the_classes_are_covered(digits: Digits, name: str) -> None:
    scores = digits.teacher(torch.from_numpy(digits.samples(name).images))
    assert isinstance(scores, torch.Tensor)
    assert len(set(scores.argmax(1).tolist())) >= 8


@every_method
def test_samples_are_what_the_model_takes(digits: Digits, name: str) -> None:
    samples = digits.samples(name)
    low, high = PREPROCESS.bounds(1)
    assert samples.images.shape == (64, 1, 16, 16)
    assert samples.images.dtype == np.float32
    assert samples.images.min() >= low[0]
    assert samples.images.max() <= high[0]
    assert samples.labels is not None
    assert samples.labels.shape == (64, 10)
    np.testing.assert_allclose(samples.labels.sum(1), 1, atol=1e-5)


@every_method
def test_the_seed_decides(digits: Digits, name: str) -> None:
    method = replace(METHODS[name], iterations=4, warmup=2)
    before = torch.get_rng_state()
    first, again, other = (
        method.synthesize([digits.teacher], replace(digits.request, count=5, seed=seed)).images for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.1
    assert torch.equal(torch.get_rng_state(), before)


@every_method
def test_a_saved_generator_draws_the_same(digits: Digits, name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "kept.pt")
    saving = replace(METHODS[name], iterations=4, warmup=2, save=path)
    made = saving.synthesize([digits.teacher], digits.request)
    # The file knows its sizes: no option but its name is needed.
    drawn = type(saving)(generator=path).synthesize([digits.teacher], replace(digits.request, student=None))
    assert np.abs(drawn.images - made.images).max() < 1e-5
    assert type(saving)(generator=path).schedule_for(digits.request).iterations > 4


@every_method
def test_another_method_s_generator_is_refused(digits: Digits, name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "kept.pt")
    replace(METHODS[name], iterations=1, warmup=1, save=path).synthesize([digits.teacher], digits.request)
    other = "gdfq" if name != "gdfq" else "qimera"
    with pytest.raises(SamplesError, match=f"kept.pt: a generator of {name}, not of {other}; use {name}"):
        replace(METHODS[other], generator=path).synthesize([digits.teacher], digits.request)
    wider = replace(digits.request, shape=(1, 20, 16))
    with pytest.raises(SamplesError, match=r"for images \(1, 16, 16\), and the model's are \(1, 20, 16\); train one"):
        replace(METHODS[name], generator=path).synthesize([digits.teacher], wider)


def test_a_file_that_is_no_generator_is_refused(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a generator")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    for file in ("text.pt", "other.pt", "missing.pt"):
        with pytest.raises(SamplesError, match=rf"{file}: not a generator.*dfq-deploy synthesize --method"):
            Gdfq(generator=str(tmp_path / file)).synthesize([digits.teacher], digits.request)


class _Trap:
    """Runs code when it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_cannot_run_code(digits: Digits, tmp_path: Path) -> None:
    torch.save({"format": _Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    with pytest.raises(SamplesError, match=r"trap.pt: not a generator"):
        Gdfq(generator=str(tmp_path / "trap.pt")).synthesize([digits.teacher], digits.request)
    assert not (tmp_path / "sprung").exists()


@every_method
def test_a_source_goes_on_where_it_stopped(digits: Digits, name: str) -> None:
    method = replace(METHODS[name], iterations=4, warmup=2)
    sources = [method.build([digits.teacher], digits.request) for _ in range(2)]
    generator = torch.Generator().manual_seed(3)
    sources[0].adapt((), generator)
    sources[1].restore(sources[0].state())
    for source in sources:
        source.adapt((), torch.Generator().manual_seed(4))
    first, second = (source.draw(6, torch.Generator().manual_seed(5))[0] for source in sources)
    assert torch.equal(first, second)
    assert sources[1].steps == 2


@pytest.mark.parametrize("name", ["adversarial", "dfqf"])
def test_without_a_student_the_way_out_is_said(digits: Digits, name: str) -> None:
    with pytest.raises(
        ModelError, match=rf"{name} searches for samples on which a quantized network differs.*no such network is av"
    ):
        METHODS[name].synthesize([digits.teacher], replace(digits.request, student=None))


@pytest.mark.parametrize("name", ["adversarial", "dfqf"])
def test_its_steps_raise_the_students_loss(digits: Digits, name: str) -> None:
    method = {
        "adversarial": Adversarial(**QUICK, generators=1, auxiliary=0.0),
        "dfqf": Dfqf(**QUICK, statistics_weight=0.0, adversarial=20.0),
    }[name]
    request = replace(digits.request, seed=1)
    source = method.build([digits.teacher], request)
    assert request.student is not None
    student: Student = request.student()
    generator = torch.Generator().manual_seed(0)
    divergences = [source.adapt([student], generator)["divergence"] for _ in range(160)]
    assert np.mean(divergences[-20:]) > 2 * np.mean(divergences[:5])


def test_the_student_s_weights_get_no_gradient(digits: Digits) -> None:
    weight = torch.ones((), requires_grad=True)
    source = METHODS["adversarial"].build([digits.teacher], digits.request)
    source.adapt([lambda images: weight * images.flatten(1)[:, :10]], torch.Generator().manual_seed(0))
    assert weight.grad is None


@pytest.mark.parametrize("name", ["gdfq", "qimera"])
def test_what_no_student_changes_runs_none(digits: Digits, name: str) -> None:
    def student(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the student was run")

    source = METHODS[name].build([digits.teacher], digits.request)
    assert set(source.adapt([student], torch.Generator().manual_seed(0))) == {"class", "statistics"}


@every_method
def test_a_model_without_class_scores_is_refused(digits: Digits, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} needs class scores .* use --synth procedural"):
        METHODS[name].synthesize([digits.teacher], replace(digits.request, classes=None))


@every_method
def test_a_model_of_no_images_is_refused(digits: Digits, name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} makes images \(C, H, W\), and the model's input is \(256,\)"):
        METHODS[name].synthesize([digits.teacher], replace(digits.request, shape=(256,)))


@every_method
def test_a_model_without_normalisation_is_refused(digits: Digits, tiny: Model, name: str) -> None:
    folded = Twin.from_model(load(tiny(normalized=False)))
    with pytest.raises(ModelError, match=f"{name} needs BatchNormalization"):
        METHODS[name].synthesize([folded], replace(digits.request, shape=(3, 8, 8), classes=4))


@every_method
def test_odd_sizes_and_no_preprocess(tiny: Model, name: str) -> None:
    teacher = teacher_of(load(tiny(channels=2, size=7)), {}, "cpu")
    request = SynthesisRequest(5, (2, 7, 7), 4, student=lambda: lambda images: images.flatten(1)[:, :4])
    samples = replace(METHODS[name], iterations=3, warmup=2).synthesize([teacher], request)
    assert samples.images.shape == (5, 2, 7, 7)


@every_method
def test_numbers_that_make_no_sense_are_refused(name: str) -> None:
    kind = type(METHODS[name])
    for options, text in (
        ({"schedule": "fast"}, "schedule 'fast' is not one of auto, paper, short"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
        ({"batch": 1}, "batch=1 must be at least 2; a batch of one image has no statistics"),
    ):
        with pytest.raises(OptionError, match=f"{name}: {text}"):
            kind(**options)


@every_method
def test_the_paper_s_schedule_runs_on_a_gpu_and_the_short_one_elsewhere(digits: Digits, name: str) -> None:
    kind = type(METHODS[name])
    on_gpu = kind().schedule_for(replace(digits.request, device="cuda:0"))
    assert on_gpu == kind(schedule="paper").schedule_for(digits.request)
    assert kind().schedule_for(digits.request) == kind(schedule="short").schedule_for(digits.request) != on_gpu
    half = kind(iterations=on_gpu.iterations // 2, schedule="paper").schedule_for(digits.request)
    assert half.warmup == on_gpu.warmup // 2


def test_gdfq_s_and_qimera_s_schedule_is_the_papers(digits: Digits) -> None:
    large = replace(digits.request, shape=(3, 224, 224))
    for kind in (Gdfq, Qimera):
        plan = kind(schedule="paper").schedule_for(digits.request)
        assert (plan.iterations, plan.warmup, plan.batch) == (400 * 200, 4 * 200, 200)
        plan = kind(schedule="paper").schedule_for(large)
        assert (plan.iterations, plan.warmup, plan.batch) == (400 * 200, 50 * 200, 16)
        training_ = kind(schedule="paper").build([digits.teacher], digits.request).training
        rates = [training_.rate(epoch * 200) for epoch in (0, 99, 100, 200, 300)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])


def test_each_class_is_drawn_as_often(digits: Digits) -> None:
    labels = digits.samples("gdfq").labels
    assert labels is not None
    assert set(labels.sum(0)) <= {6.0, 7.0, 8.0}


def test_several_generators_share_what_is_drawn(digits: Digits) -> None:
    source = Adversarial(**QUICK, generators=3).build([digits.teacher], digits.request)
    assert len(source.samplers) == 3
    images, labels = source.draw(7, torch.Generator().manual_seed(0))
    assert images.shape == (7, 1, 16, 16)
    assert labels is None
