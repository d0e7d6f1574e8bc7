"""Sanity of whole sets on the digits example: what is good passes, what is wrong is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy.evaluation.sample_quality import with_quality
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, worst
from dfq_deploy.verdict.sanity import preprocess_answers
from dfq_deploy.verdict.sanity.findings import preprocess_findings, sanity_findings
from dfq_deploy.verdict.sanity.photograph_answers import GIVEN
from examples.digits import data

Model = Callable[..., onnx.ModelProto]

PIXELS = data.training().images[:64]

REAL = Samples(data.PREPROCESS.apply(PIXELS))

GREY = {"imagenet": Preprocess((0.449,), (0.226,)), "std 100": Preprocess((0.305,), (100.0,))} | {
    name: PREPROCESSES[name] for name in ("raw", "zero-one", "minus-one-one")
}


@pytest.fixture(params=["bn", "folded"])
def path(request: pytest.FixtureRequest, digits_bn: Path, digits_folded: Path) -> Path:
    return digits_bn if request.param == "bn" else digits_folded


def findings(path: Path, samples: Samples, preprocess: Preprocess | None = data.PREPROCESS) -> dict[str, Finding]:
    found = sanity_findings(load(path), samples, preprocess)
    assert len({entry.code for entry in found}) == len(found)
    return {entry.code: entry for entry in found}


def level(path: Path, samples: Samples, preprocess: Preprocess | None = data.PREPROCESS) -> str:
    return worst(list(findings(path, samples, preprocess).values()))


def test_real_images_are_ok(path: Path) -> None:
    assert level(path, REAL) == "OK"
    assert level(path, REAL, None) == "OK"


def test_synthesized_samples_are_ok(path: Path, digits: Samples) -> None:
    assert level(path, digits) == "OK"


def test_zeros_are_bad(path: Path) -> None:
    zeros = Samples(np.zeros((16, 1, 16, 16), np.float32))
    for preprocess in (data.PREPROCESS, None):
        assert findings(path, zeros, preprocess)["samples-constant"].level == "BAD"


def test_the_cause_comes_first(path: Path) -> None:
    zeros = Samples(np.zeros((16, 1, 16, 16), np.float32))
    for samples, preprocess, code in (
        (zeros, data.PREPROCESS, "samples-constant"),
        (Samples(GREY["zero-one"].apply(PIXELS)), GREY["zero-one"], "preprocess-fit"),
        (zeros, Preprocess((123.0,), (58.0,)), "preprocess-units"),
    ):
        found = sanity_findings(load(path), samples, preprocess)
        assert next(entry.code for entry in found if entry.level == "BAD") == code


def test_one_sample_is_bad(path: Path) -> None:
    assert findings(path, REAL.part(slice(1)))["samples-few"].level == "BAD"


@pytest.mark.parametrize("name", ["raw", "zero-one", "std 100"])
def test_a_wrong_preprocess_is_bad(path: Path, name: str) -> None:
    assert level(path, Samples(GREY[name].apply(PIXELS)), GREY[name]) == "BAD"


def test_one_that_clips_is_worth_a_look(path: Path, digits_bn: Path) -> None:
    """Its file loses 8 points. Without statistics both the answers and the offsets speak against it."""
    found = findings(path, Samples(GREY["minus-one-one"].apply(PIXELS)), GREY["minus-one-one"])
    assert found["preprocess-fit"].level == ("CHECK" if path == digits_bn else "BAD")


def test_raw_on_the_digits_names_what_fits_better(digits_bn: Path) -> None:
    found = findings(digits_bn, Samples(GREY["raw"].apply(PIXELS)), GREY["raw"])
    assert found["preprocess-fit"].level == "BAD"
    nearest = "(the nearest is --mean 0.449 --std 0.226)"
    assert found["preprocess-fit"].remedy.startswith(f"none of the known ones fits {nearest}")


def test_figures_of_0_to_255_are_bad(path: Path) -> None:
    given = Preprocess((123.0,), (58.0,))
    assert findings(path, Samples(given.apply(PIXELS)), given)["preprocess-units"].level == "BAD"


def test_arrays_of_another_range_are_bad(path: Path) -> None:
    assert findings(path, Samples(GREY["raw"].apply(PIXELS)))["samples-range"].level == "BAD"
    assert level(path, Samples(GREY["raw"].apply(PIXELS)), None) != "OK"


@pytest.mark.parametrize("name", ["raw", "minus-one-one"])
def test_arrays_whose_preprocess_is_not_stated_tell_it_by_their_answers(digits_folded: Path, name: str) -> None:
    found = findings(digits_folded, Samples(GREY[name].apply(PIXELS)), None)["preprocess-fit"]
    assert found.level != "OK"
    low, high = {"raw": ("0", "255"), "minus-one-one": ("-1", "1")}[name]
    assert f"without --preprocess, and their values, {low} to {high}, do not seem to fit the model" in found.message
    assert found.remedy.startswith("normalize the arrays as ")
    assert found.options == ""


def test_a_doubtful_mean_does_not_end_the_other_checks(digits_folded: Path) -> None:
    for std, told in ((0.2, ["CHECK", "BAD"]), (0.319, ["CHECK"])):
        given = Preprocess((0.0,), (std,))
        found = preprocess_findings(load(digits_folded), Samples(given.apply(PIXELS)), given)
        assert [entry.code for entry in found] == ["preprocess-units", "preprocess-fit"][: len(told)]
        assert [entry.level for entry in found] == told


def test_a_teacher_tells_the_statistics(digits_bn: Path, digits_folded: Path) -> None:
    raw = Samples(GREY["raw"].apply(PIXELS))
    found = sanity_findings(load(digits_folded), raw, GREY["raw"], [load(digits_bn)])
    assert "samples-statistics" in {entry.code for entry in found if entry.level == "BAD"}


def test_labels_of_another_order_are_named(digits_bn: Path) -> None:
    true = data.training().labels[:64]
    for labels, expected in ((true, "OK"), ((true + 3) % 10, "CHECK")):
        samples = with_quality(replace(REAL, labels=labels), load(digits_bn))
        assert findings(digits_bn, samples)["labels"].level == expected


def test_inputs_that_are_no_pictures_have_no_preprocess(model_of: Model) -> None:
    weights = {"w": np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)}
    model = load(model_of("float[n,5] x", "float[n,3] y", "y = MatMul(x, w)", weights))
    rows = Samples(np.random.default_rng(1).standard_normal((32, 5), np.float32))
    codes = {entry.code for entry in sanity_findings(model, rows, PREPROCESSES["raw"])}
    assert not codes & {"samples-scale", "samples-range", "preprocess-fit"}
    assert worst(list(sanity_findings(model, rows))) == "OK"


def test_the_cheap_findings_do_not_touch_the_samples(digits_bn: Path) -> None:
    before = REAL.images.copy()
    sanity_findings(load(digits_bn), REAL, data.PREPROCESS)
    np.testing.assert_array_equal(REAL.images, before)


@pytest.mark.parametrize("classes", [1, 2])
def test_labels_speak_for_the_preprocess_of_images_of_few_classes(digits_folded: Path, classes: int) -> None:
    """Answers of few classes hold little information, and more under a preprocess that scatters them."""
    digits = data.training()
    few = np.flatnonzero(digits.labels < classes)[:60]
    pixels, labels = digits.images[few], digits.labels[few]
    right = Samples(data.PREPROCESS.apply(pixels), labels=labels)
    assert findings(digits_folded, right)["preprocess-fit"].level == "OK"
    wrong = Samples(GREY["raw"].apply(pixels), labels=labels)
    assert level(digits_folded, wrong, GREY["raw"]) != "OK"


def test_what_the_labels_say_outweighs_information(digits_folded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess_answers, "information", lambda *_: 0.2)
    monkeypatch.setattr(preprocess_answers, "informations", lambda _, sets, __: [2.0] * len(sets))
    digits, model = data.training(), load(digits_folded)
    right = Samples(data.PREPROCESS.apply(digits.images[:64]), labels=digits.labels[:64])
    found = preprocess_answers.answers_finding(model, right, data.PREPROCESS, 1)
    assert found is not None
    assert found.level == "OK"
    assert found.message.startswith("more of the labels are hit under --mean 0.305 --std 0.319 (")
    drawn = replace(right, method="deepinversion")  # whose labels are what it was made for
    for doubted in (replace(right, labels=None), replace(right, labels=(digits.labels[:64] + 1) % 10), drawn):
        found = preprocess_answers.answers_finding(model, doubted, data.PREPROCESS, 1)
        assert found is not None
        assert found.level == "BAD"


@pytest.mark.parametrize("name", ["raw", "std 100", "own"])
def test_every_message_on_a_preprocess_names_it(path: Path, name: str) -> None:
    given = data.PREPROCESS if name == "own" else GREY[name]
    found = findings(path, Samples(given.apply(PIXELS)), given)["preprocess-fit"]
    assert " ".join(given.options) in found.message
    drawn = Samples(given.apply(PIXELS), method="procedural")
    told = findings(path, drawn, given)["preprocess-fit"]
    assert " ".join(given.options) in told.message


@pytest.mark.parametrize(
    ("told", "best", "expected"),
    [
        ((1.5, 1.5), 1.2, "OK"),
        ((1.4, 1.5), 1.2, "CHECK"),
        ((1.2, 1.5), 1.2, "BAD"),
        ((0.4, 0.4), 1.2, "BAD"),  # the network recognizes nothing in photographs
        (None, 1.2, "BAD"),
        ((1.5, 1.5), 2.0, "BAD"),  # the answers under another preprocess show that the images are of many classes
    ],
)
def test_photographs_speak_for_images_of_few_classes(
    digits_folded: Path, monkeypatch: pytest.MonkeyPatch, told: tuple[float, float] | None, best: float, expected: str
) -> None:
    monkeypatch.setattr(preprocess_answers, "information", lambda *_: 0.2)
    monkeypatch.setattr(preprocess_answers, "informations", lambda _, sets, __: [best] * len(sets))
    answers = None if told is None else {GIVEN: told[0], "imagenet": told[1]}
    monkeypatch.setattr(preprocess_answers, "information_on_photographs", lambda *_: answers)
    digits, model = data.training(), load(digits_folded)
    few = Samples(data.PREPROCESS.apply(digits.images[:64]))
    found = preprocess_answers.answers_finding(model, few, data.PREPROCESS, 1)
    assert found is not None
    assert found.level == expected
    said = "the images seem to be of few classes, but answers to photographs hold 1.5 nats of information under --mean"
    assert found.message.startswith(said) == (expected == "OK")
    labelled = replace(few, labels=(digits.labels[:64] + 1) % 10)  # labels that are not hit count more
    found = preprocess_answers.answers_finding(model, labelled, data.PREPROCESS, 1)
    assert found is not None
    assert found.level == "BAD"


def test_unlabelled_images_of_one_class_do_not_condemn_the_right_preprocess(zoo: Path) -> None:
    """Automobiles of CIFAR-10's test set, and dogs: all get one answer or two, and scatter under a wrong preprocess."""
    with np.load(zoo / "data/cifar10_test_10k.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    for name, label in (("akamaster_resnet56_cifar10.onnx", 1), ("akamaster_resnet20_cifar10.onnx", 5)):
        model, pixels = load(zoo / "models" / name), images[labels == label][:80]
        levels = {}
        for given in ("imagenet", "zero-one", "minus-one-one", "raw"):
            samples = Samples(PREPROCESSES[given].apply(pixels))
            found = sanity_findings(model, samples, PREPROCESSES[given])
            levels[given] = worst([one for one in found if one.code != "samples-classes"])
            if given == "imagenet":
                assert preprocess_findings(model, samples, PREPROCESSES[given]) == ()
        assert levels["imagenet"] == "OK"
        assert "OK" not in {levels[wrong] for wrong in levels if wrong != "imagenet"}
