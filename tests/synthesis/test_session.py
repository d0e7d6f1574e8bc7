"""Which teacher, which method, how many: choices and refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy import synthesize
from dfq_deploy.errors import DfqError, ModelError, OptionError, PluginError
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.synthesis.methods.lowpass import LowPass
from dfq_deploy.synthesis.methods.noise import Noise
from dfq_deploy.synthesis.session import pick_device

Model = Callable[..., onnx.ModelProto]


def test_without_normalization_pictures_are_drawn_and_said_to_be(digits_folded: Path) -> None:
    samples = synthesize(digits_folded, synth="deepinversion", count=5)
    assert samples.method == "procedural"
    (note,) = samples.notes
    for words in ("deepinversion matches BatchNormalization statistics", "procedural samples were used", "--teacher"):
        assert words in note
    np.testing.assert_array_equal(samples.images, synthesize(digits_folded, synth="procedural", count=5).images)


def test_a_teacher_with_normalization_is_inverted(digits_folded: Path, digits_bn: Path) -> None:
    method = DeepInversion(iterations=2)
    from_teacher = synthesize(digits_folded, synth=method, teachers=[digits_bn], count=3)
    assert (from_teacher.method, from_teacher.notes) == ("deepinversion", ())
    np.testing.assert_array_equal(from_teacher.images, synthesize(digits_bn, synth=method, count=3).images)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (r"its input shape is \(3, 9, 9\), the model's \(3, 8, 8\)", {"size": 9}),
        ("its number of classes is 7, the model's 4", {"classes": 7}),
    ],
)
def test_a_teacher_of_another_network_is_refused(tiny: Model, words: str, options: dict[str, int]) -> None:
    with pytest.raises(
        ModelError, match=f"^--teacher does not fit the model: {words}; give the same .* or others with"
    ):
        synthesize(tiny(), teachers=[tiny(**options)])


def test_unknown_methods_are_refused_with_what_there_is(tiny: Model) -> None:
    with pytest.raises(PluginError, match=r"^no synthesizer 'dreams'; installed: .*deepinversion, .*noise, .*proced"):
        synthesize(tiny(), synth="dreams")


def test_a_method_with_options_keeps_its_name(tiny: Model) -> None:
    samples = synthesize(tiny(), synth=Noise("gaussian"), count=4)
    assert samples.method == "noise"
    assert samples.images.min() < 0


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((3, 32, 32), 256),
        ((1, 64, 64), 256),
        ((3, 65, 64), 64),
        ((3, 224, 224), 64),
        ((10,), 256),
        ((1, 128, 128, 128), 64),
        ((1, 256, 256, 256), 8),
        ((1, 512, 512, 512), 8),
    ],
)
def test_large_pictures_are_fewer(shape: tuple[int, ...], count: int) -> None:
    assert default_count(shape) == count


def test_no_samples_are_refused(tiny: Model) -> None:
    with pytest.raises(OptionError, match="samples: 0 requested, but at least 1 is required"):
        synthesize(tiny(), synth="noise", count=0)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda:0"


@pytest.mark.parametrize("device", ["cuda:9", "toaster"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(DfqError, match=rf"^device '{device}' is not available here \(.*\); use --device cpu or auto$"):
        pick_device(device)


def test_a_filtered_method_keeps_its_name(tiny: Model) -> None:
    assert synthesize(tiny(), synth=LowPass(Noise(), 40), count=3).method == "noise"
