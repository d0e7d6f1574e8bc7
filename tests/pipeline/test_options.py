"""Options as text, in groups and as keywords; wrong values are refused by an OptionError that names them."""

import json
from collections.abc import Callable, Sequence
from inspect import get_annotations
from pathlib import Path
from typing import Any, ForwardRef

import numpy as np
import onnx
import pytest
from PIL import Image

import dfq_deploy
from dfq_deploy import PREPROCESSES, OptionError, PluginError, Samples, TargetError, Teacher
from dfq_deploy.errors import DfqError, ModelError
from dfq_deploy.files.paths import AnyPath
from dfq_deploy.pipeline import keywords
from dfq_deploy.pipeline.options import ModelInputs, Resume, SynthesisOptions, grouped
from dfq_deploy.quantization.dynamic import Activations

Model = Callable[..., onnx.ModelProto]


@pytest.fixture
def net(tmp_path: Path, tiny: Model) -> str:
    onnx.save(tiny(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Twelve pictures in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    return str(folder)


def annotations(kind: type) -> dict[str, Any]:
    """As they are written; those of bases too."""
    return {
        name: hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
        for base in reversed(kind.__mro__)
        for name, hint in get_annotations(base).items()
    }


def test_the_keywords_are_the_fields_of_the_groups() -> None:
    inputs, synthesis, resume = (annotations(group) for group in (ModelInputs, SynthesisOptions, Resume))
    assert annotations(keywords.SynthesisKeywords) == {**inputs, **synthesis, **resume}
    widths = {"edge_bits": int | None, "size": float | None, "drop": float | None}
    overrides = {"keep_float": Sequence[str] | str, "exclude": str | None, "overrides": AnyPath | None}
    activations = {"activations": Activations}
    limits = {"floor": str, "max_time": float | None, "max_slowdown": float | None}
    reports = {"command": str, "compare": AnyPath | None, "labels": AnyPath | None}
    wanted = {**inputs, **synthesis, **resume, **widths, **overrides, **limits, **activations, **reports}
    assert annotations(keywords.CalibrationKeywords) == wanted
    assert annotations(keywords.FinetuneKeywords) == {**inputs, **synthesis, **overrides, **reports}


def test_a_keyword_takes_the_place_of_a_field() -> None:
    group = SynthesisOptions(count=5, tolerance=0.1)
    assert grouped(SynthesisOptions, group, {}).count == 5
    joined = grouped(SynthesisOptions, group, {"count": 7, "resume": True})
    assert (joined.count, joined.tolerance) == (7, 0.1)


def test_groups_and_keywords_give_the_same_samples(net: str) -> None:
    plain = dfq_deploy.synthesize(net, synth="procedural", count=4, teachers=net)
    grouped_ = dfq_deploy.synthesize(net, synth="procedural", synthesis=SynthesisOptions(teachers=(net,), count=4))
    np.testing.assert_array_equal(plain.images, grouped_.images)


def test_text_does_where_a_path_or_a_preprocess_is_meant(
    net: str, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = dfq_deploy.calibrate(net, data=photos, preprocess="imagenet", refine="none", output="int8")
    assert made.model_path == Path("int8/model.qdq.onnx")
    same = dfq_deploy.calibrate(
        Path(net), data=Path(photos), preprocess=PREPROCESSES["imagenet"], refine=(), output=tmp_path / "other"
    )
    assert (tmp_path / "other/model.qdq.onnx").read_bytes() == made.model_path.read_bytes()
    assert same.samples.preprocess == PREPROCESSES["imagenet"]
    again = dfq_deploy.calibrate(net, data="int8/samples.npz", preprocess="imagenet", refine="none")
    np.testing.assert_array_equal(again.samples.images, made.samples.images)
    found = dfq_deploy.evaluate(net, "int8/model.qdq.onnx", photos, preprocess="imagenet", count=5)
    assert (found.comparison.count, found.data) == (5, photos)
    written = dfq_deploy.export(net, to="qdq", encodings="int8/encodings.json", output="anew.onnx")
    assert written.files == (Path("anew.onnx"),)
    anew, first = onnx.load("anew.onnx"), onnx.load(made.model_path)
    del first.metadata_props[:]  # the preprocess, which encodings.json does not hold
    assert anew == first
    assert dfq_deploy.check("int8/model.qdq.onnx").clean
    assert dfq_deploy.inspect(net).name == "net.onnx"


def test_a_teacher_as_text_has_its_own_preprocess(net: str) -> None:
    pair: list[Any] = [f"{net}:minus-one-one", Teacher(net, "minus-one-one")]
    first, second = (
        dfq_deploy.synthesize(net, synth="deepinversion", teachers=teacher, count=2, preprocess="zero-one", tolerance=0)
        for teacher in pair
    )
    np.testing.assert_array_equal(first.images, second.images)


def test_a_limit_takes_some_of_what_lies_at_a_path(net: str, photos: str) -> None:
    made = dfq_deploy.calibrate(net, data=photos, preprocess="zero-one", refine="none", count=6)
    assert len(made.samples) == 6


WRONG: dict[str, tuple[type[DfqError], str, dict[str, Any]]] = {
    "preprocess": (
        OptionError,
        "preprocess: 'imagnet' is unknown; did you mean imagenet?; means and standard deviations",
        {"preprocess": "imagnet"},
    ),
    "preprocess, a number": (OptionError, "preprocess: '5' is unknown; choose one of: imagenet", {"preprocess": 5}),
    "output": (OptionError, "output: 5 is not a path; give a string", {"output": 5}),
    "no output": (OptionError, "output: '' is not a path", {"output": ""}),
    "data": (OptionError, "data: 5 is not a path", {"data": 5, "synth": None}),
    "count": (OptionError, "samples: 0 requested, but at least 1 is required", {"count": 0}),
    "count, text": (OptionError, "samples: 8 requested, but at least 1", {"count": "8"}),
    "tolerance": (OptionError, "tolerance=2 must lie between 0 and 1, e.g. 0.01, or be 'auto'", {"tolerance": 2}),
    "bits": (OptionError, "bits: '4' is not of the form w4a8", {"bits": 4}),
    "bits, text": (OptionError, "bits: 'four' is not of the form w4a8", {"bits": "four"}),
    "seed": (OptionError, "seed=-1 must be a whole number from 0 on", {"seed": -1}),
    "seed, text": (OptionError, "seed='1' must be a whole number from 0 on", {"seed": "1"}),
    "device": (OptionError, "device 'abacus' is not available here", {"device": "abacus"}),
    "device, a number": (OptionError, "device '1.5' is not available here", {"device": 1.5}),
    "resume": (OptionError, "resume: give the folder of the unfinished work", {"resume": True}),
    "unfinished": (OptionError, "unfinished: 3 is not a path", {"unfinished": 3}),
    "refine": (OptionError, "refine: 5 is not a list of names", {"refine": 5}),
    "refine, no name": (PluginError, "no refinement 'polish'", {"refine": "polish"}),
    "synth": (PluginError, "int is not a valid synthesizer: give a name, or an instance", {"synth": 5}),
    "synth, a class": (PluginError, "class Samples is not a valid synthesizer", {"synth": Samples}),
    "method": (PluginError, "int is not a valid calibrator", {"method": 5}),
    "target": (TargetError, "unknown target '5'", {"target": 5}),
    "inputs": (OptionError, "expected ModelInputs, not 'x'", {"inputs": "x"}),
    "both": (OptionError, "calibrate takes a synthesis method or data, and not both", {"data": "x"}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_raises_what_is_promised(net: str, case: str) -> None:
    kind, words, given = WRONG[case]
    with pytest.raises(DfqError) as caught:
        dfq_deploy.calibrate(net, **{"synth": "noise", "count": 4, **given})
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_steps_refuse_them_too(net: str, tmp_path: Path) -> None:
    calls: list[tuple[Callable[[], object], type[DfqError], str]] = [
        (lambda: dfq_deploy.synthesize(net, preprocess="imagnet"), OptionError, "'imagnet' is unknown"),
        (lambda: dfq_deploy.finetune(net, data="x", output=5), OptionError, "output: 5 is not a path"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.finetune(net, synth="noise", resume=True), OptionError, "resume needs the output folder"),
        (lambda: dfq_deploy.finetune(net, synth="noise", bits=4), OptionError, "bits: '4' is one number"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.evaluate(net, 5), OptionError, "the quantized model: 5 is not a path"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.evaluate(net, net, preprocess="x"), OptionError, "'x' is unknown"),
        (lambda: dfq_deploy.export(net, to=5), PluginError, "int is not a valid exporter"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.export(net, to="qdq", encodings=5), OptionError, "encodings: 5 is not a path"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.load(5), ModelError, "int"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.inspect(5), ModelError, "int"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.check(5), ModelError, "int"),  # type: ignore[arg-type]
        (lambda: dfq_deploy.Samples.load(5), OptionError, "path: 5 is not a path"),  # type: ignore[arg-type]
    ]
    for call, kind, words in calls:
        with pytest.raises(kind, match=words):
            call()


def test_a_keyword_that_there_is_not_is_refused_as_python_does(net: str) -> None:
    words = r"calibrate\(\) got an unexpected keyword argument 'sample'; .* count, drop, edge_bits"
    with pytest.raises(TypeError, match=words):
        dfq_deploy.calibrate(net, synth="noise", sample=4)  # type: ignore[call-arg]


def test_the_report_is_json_and_has_attributes(net: str) -> None:
    report = dfq_deploy.calibrate(net, synth="noise", count=8, refine="none").report
    assert report.schema_version == report["schema_version"] == 1
    assert json.loads(json.dumps(report.to_json())) == report
    assert report.comparison.count == report["comparison"]["samples"] == 1
    assert report.samples.method == "noise"
    assert [row.name for row in report.tensors] == [row["name"] for row in report["tensors"]]
    with pytest.raises(AttributeError, match="cannot assign to field 'seconds'"):
        report.seconds = {}  # type: ignore[misc]
    with pytest.raises(KeyError):
        report["verdict of another version"]


def test_samples_of_another_preprocess_are_told_of(net: str, tmp_path: Path) -> None:
    dfq_deploy.synthesize(net, synth="noise", count=8, preprocess="imagenet").save(tmp_path / "s.npz")
    (told,) = dfq_deploy.calibrate(net, data=tmp_path / "s.npz", preprocess="cifar10", refine="none").report.warnings
    assert told.startswith("the samples were made with mean (0.485, 0.456, 0.406)")
    assert (
        dfq_deploy.calibrate(net, data=tmp_path / "s.npz", preprocess="imagenet", refine="none").report.warnings == ()
    )
