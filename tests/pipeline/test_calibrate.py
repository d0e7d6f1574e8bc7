"""The steps in order, on the example's network: what is used where, what is left behind, what is refused."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import DfqError, ModelError, OptionError, OutputError, PluginError, SamplesError, TargetError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.plugins.contracts import Calibrator, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import HEADROOM
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion

Model = Callable[..., onnx.ModelProto]

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))

FILES = {"model.qdq.onnx", "encodings.json", "samples.npz", "samples.png", "report.json", "report.html"}


@dataclass(frozen=True)
class Fixed(Calibrator):
    """Says that every tensor spans -1 to 2, and keeps what it was fed."""

    seen: list[np.ndarray] = field(default_factory=list)

    summary: ClassVar[str] = "-1 to 2"

    def ranges(
        self, model: ir.Model, tensors: Mapping[str, QuantType], batches: Iterable[Feeds], progress: Progress = SILENT
    ) -> dict[str, Range]:
        self.seen.extend(feeds["image"] for feeds in batches)
        return dict.fromkeys(tensors, Range(-1, 2))


def numbered(count: int) -> Samples:
    """Pictures that tell which they are: sample k of N is k / N all over."""
    images = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, 16, 16))
    return Samples(np.ascontiguousarray(images) / np.float32(count))


@pytest.mark.parametrize(
    "synth", [DeepInversion(iterations=2), "procedural", "noise"], ids=["deepinversion", "procedural", "noise"]
)
def test_everything_is_there_in_the_end(digits_bn: Path, tmp_path: Path, synth: str | Synthesizer) -> None:
    out = tmp_path / "new/out"
    result = calibrate(digits_bn, synth=synth, count=24, preprocess=PIXELS, output=out)
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"new"}
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    assert set(result.files) == set(out.iterdir())
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads(json.dumps(result.report.to_json()))
    assert report["model"]["name"] == "digits_bn.onnx"
    assert (report["samples"]["count"], report["samples"]["held_out"], report["comparison"]["samples"]) == (24, 3, 3)
    assert report["calibration"] == {
        "method": "mse",
        "refine": ["bias"],
        "headroom": HEADROOM,
        "known_ranges": 0,
        "bits": "w8a8",
    }
    assert report["left_float"] == []
    assert set(report["files"]) == FILES
    assert Samples.load(out / "samples.npz").images.tobytes() == result.samples.images.tobytes()
    onnx.checker.check_model(onnx.load(out / "model.qdq.onnx"), full_check=True)
    session = ort.InferenceSession(out / "model.qdq.onnx", providers=["CPUExecutionProvider"])
    assert session.run(["scores"], {"image": np.zeros((3, 1, 16, 16), np.float32)})[0].shape == (3, 10)


def test_samples_of_a_file_give_the_model_that_they_gave_before(digits_bn: Path, tmp_path: Path) -> None:
    synthesize(digits_bn, synth="procedural", count=16, preprocess=PIXELS, seed=3).save(tmp_path / "samples.npz")
    loaded = Samples.load(tmp_path / "samples.npz")
    calibrate(digits_bn, data=loaded, preprocess=PIXELS, output=tmp_path / "a")
    calibrate(digits_bn, synth="procedural", count=16, preprocess=PIXELS, seed=3, output=tmp_path / "b")
    for name in ("model.qdq.onnx", "encodings.json", "samples.npz", "samples.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_eighth_sample_is_held_out(digits_bn: Path) -> None:
    calibrator, samples = Fixed(), numbered(41)
    result = calibrate(digits_bn, data=samples, method=calibrator, refine=())
    used = [round(float(image[0, 0, 0]) * 41) for batch in calibrator.seen for image in batch]
    assert used == [number for number in range(41) if number not in (7, 15, 23, 31, 39)]
    assert result.report["samples"]["held_out"] == 5
    assert result.model_path is None
    assert result.files == ()


def test_a_handful_of_samples_serves_as_both(digits_bn: Path) -> None:
    calibrator = Fixed()
    result = calibrate(digits_bn, data=numbered(7), method=calibrator, refine=())
    assert sum(map(len, calibrator.seen)) == 7
    assert result.report["samples"]["held_out"] == 7


@pytest.mark.parametrize(("method", "headroom"), [("", 1.0), ("procedural", HEADROOM)])
def test_synthesized_samples_get_headroom_and_real_ones_none(digits_bn: Path, method: str, headroom: float) -> None:
    samples = Samples(numbered(8).images, method=method)
    encodings = calibrate(digits_bn, data=samples, method=Fixed(), refine=()).encodings
    spans = {name: encoding.range for name, encoding in encodings.items() if encoding.axis is None}
    step = 3 * headroom / 255
    # Behind a Relu nothing is negative; the input and the sums before a Relu span what the calibrator says.
    assert {(round(span.low / step), round(span.high / step)) for span in spans.values()} <= {(-85, 170), (0, 170)}
    assert spans["image"].low == pytest.approx(-1 * headroom, abs=step)
    assert spans["image"].high == pytest.approx(2 * headroom, abs=step)


def test_the_range_of_the_input_is_known_where_the_preprocessing_is(digits_bn: Path) -> None:
    samples = Samples(numbered(8).images, method="procedural")
    encodings = calibrate(digits_bn, data=samples, method=Fixed(), refine=(), preprocess=PIXELS).encodings
    low, high = (0 - 0.305) / 0.319, (1 - 0.305) / 0.319
    span = encodings["image"].range
    assert (span.low, span.high) == pytest.approx((low, high), abs=(high - low) / 255)


@dataclass(frozen=True)
class Broken(Calibrator):
    """Fails."""

    problem: BaseException

    summary: ClassVar[str] = "fails"

    def ranges(
        self, model: ir.Model, tensors: Mapping[str, QuantType], batches: Iterable[Feeds], progress: Progress = SILENT
    ) -> dict[str, Range]:
        raise self.problem


@pytest.mark.parametrize("problem", [RuntimeError("lost"), KeyboardInterrupt()], ids=repr)
def test_where_a_step_fails_nothing_is_left_behind(digits_bn: Path, tmp_path: Path, problem: BaseException) -> None:
    with pytest.raises(type(problem)):
        calibrate(digits_bn, data=numbered(8), method=Broken(problem), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "step",
    ["samples.contact_sheet.contact_sheet", "evaluation.tensors.tensor_distances", "report.writing.write_report"],
)
def test_an_earlier_result_stays_where_a_later_step_fails(
    digits_bn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.qdq.onnx").write_text("an earlier result")
    monkeypatch.setattr(f"dfq_deploy.{step}", fail)
    with pytest.raises(KeyboardInterrupt):
        calibrate(digits_bn, data=numbered(8), method=Fixed(), refine=(), output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [
        ("model.qdq.onnx", "an earlier result")
    ]


@pytest.mark.parametrize(
    ("kind", "words", "options"),
    [
        (
            OptionError,
            "calibrate takes a synthesis method or data, and not both",
            {"synth": "noise", "data": numbered(2)},
        ),
        (
            PluginError,
            "no refinement 'polish'; installed: equalize, channels, closed-form, rec",
            {"synth": "noise", "refine": ["polish"]},
        ),
        (PluginError, "no calibrator 'guess'; installed: entropy", {"synth": "noise", "method": "guess"}),
        (PluginError, "no synthesizer 'dreams'; installed: .*deepinversion", {"synth": "dreams"}),
        (TargetError, "unknown target 'abacus'; installed: cpu", {"synth": "noise", "target": "abacus"}),
        (
            SamplesError,
            r"samples of shape \(3, 8, 8\) do not fit the model's input \(1, 16, 16\)",
            {"data": Samples(np.zeros((8, 3, 8, 8), np.float32))},
        ),
        (ModelError, "--teacher does not fit the model", {"synth": "deepinversion", "teachers": ["tiny"]}),
        (
            SamplesError,
            "preprocess has 2 channels and the model's input has 1",
            {"synth": "procedural", "preprocess": Preprocess((0, 0), (1, 1))},
        ),
        (DfqError, "device 'cuda:9' is not available here", {"synth": "noise", "device": "cuda:9"}),
        (OptionError, "samples: 0 requested, but at least 1 is required", {"synth": "noise", "count": 0}),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(
    digits_bn: Path, tiny: Model, tmp_path: Path, kind: type[Exception], words: str, options: dict[str, Any]
) -> None:
    if "teachers" in options:
        options = {**options, "teachers": [tiny()]}
    with pytest.raises(kind, match=words) as caught:
        calibrate(digits_bn, output=tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_at_all() -> None:
    with pytest.raises(SamplesError, match="samples: the set is empty"):
        Samples(np.zeros((0, 1, 16, 16), np.float32))


def text(_: bytes) -> bytes:
    return b"a text file"


def short(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def diverged(whole: bytes) -> bytes:
    model = onnx.load_from_string(whole)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.2.weight")
    weight.CopyFrom(numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (text, r"model\.onnx: not an ONNX model"),
        (short, r"model\.onnx: not an ONNX model, or cut short"),
        (diverged, r"weight 'classifier\.2\.weight' of Gemm .* holds NaN or infinity; training has diverged"),
    ],
)
def test_damaged_models_leave_nothing(
    digits_bn: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(damage(digits_bn.read_bytes()))
    with pytest.raises(ModelError, match=words):
        calibrate(tmp_path / "model.onnx", synth="noise", output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^cannot write .*file/out: .*; choose another place with -o$"):
        calibrate(tmp_path / "no.onnx", synth="noise", output=tmp_path / "file/out")


def test_the_callers_model_stays_as_it_is(digits_bn: Path) -> None:
    model = onnx.load(digits_bn)
    before = model.SerializeToString(deterministic=True)
    assert calibrate(model, data=numbered(8)).report["model"]["name"] == model.graph.name
    assert model.SerializeToString(deterministic=True) == before
