"""Ranges in closed form: against formulas, against real digits, and through the pipeline."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import PREPROCESSES, Samples, calibrate, evaluate, synthesize
from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.synthesis.methods.analytic import Analytic
from dfq_deploy.targets.catalog import find_target
from examples.digits import data

Model = Callable[..., onnx.ModelProto]

TYPE = QuantType(8, signed=False, symmetric=False)


def prepared_of(source: Path | onnx.ModelProto, bits: str = "w8a8") -> Prepared:
    return prepare(load(source), find_target("cpu"), Bits.parse(bits))


def known(
    source: Path | onnx.ModelProto, *teachers: Path, bits: str = "w8a8", reach: float | None = None
) -> Mapping[str, Range]:
    ready = prepared_of(source, bits)
    loaded = [load(teacher) for teacher in teachers]
    return Analytic(reach).known_ranges(load(source), loaded, ready.model, ready.placement.activations, data.PREPROCESS)


def named(model: onnx.ModelProto, *names: str) -> list[Range]:
    """The ranges of tensors of a model that is not prepared at all."""
    loaded = load(model)
    found = Analytic(6.0).known_ranges(loaded, [], loaded, dict.fromkeys(names, TYPE))
    return [found[name] for name in names]


def test_a_normalization_speaks_for_its_input_and_output(model_of: Model) -> None:
    weights = {
        "w": np.ones((2, 3, 1, 1), np.float32),
        "gamma": np.array([0.5, -1], np.float32),
        "beta": np.array([1, 0], np.float32),
        "mean": np.array([7, -2], np.float32),
        "var": np.array([4, 9], np.float32),
    }
    nodes = "c = Conv(x, w) b = BatchNormalization(c, gamma, beta, mean, var) r = Relu(b) y = Clip(r, lo, hi)"
    limits = {"lo": np.array(0, np.float32), "hi": np.array(3.5, np.float32)}
    model = model_of("float[n,3,4,4] x", "float[n,2,4,4] y", nodes, weights | limits)
    before, after, relu, clipped = named(model, "c", "b", "r", "y")
    assert (before.low, before.high) == (-20, 19)
    assert (after.low, after.high) == (-6, 6)
    assert (relu.low, relu.high) == (0, 6)
    assert (clipped.low, clipped.high) == (0, 3.5)


def test_the_input_is_normalised_or_bounded(tiny: Model) -> None:
    loaded = load(tiny())
    find_input = partial(Analytic().known_ranges, loaded, [], loaded, {"image": TYPE})
    assert (find_input()["image"].low, find_input()["image"].high) == (-3, 3)
    bounded = find_input(PREPROCESSES["minus-one-one"])["image"]
    assert (bounded.low, bounded.high) == (-1, 1)


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
def test_every_tensor_of_the_digits_network_is_known(digits_bn: Path, bits: str) -> None:
    ready = prepared_of(digits_bn, bits)
    assert known(digits_bn, bits=bits).keys() == ready.placement.activations.keys()


def test_ranges_are_about_what_real_digits_take(digits_bn: Path) -> None:
    ready = prepared_of(digits_bn)
    names = list(ready.placement.activations)
    watched = ready.model.clone()
    values = {v.name: v for node in watched.graph for v in node.outputs} | {v.name: v for v in watched.graph.inputs}
    watched.graph.outputs.clear()
    watched.graph.outputs.extend(values[name] for name in names if values[name].producer() is not None)
    runner = Runner(to_bytes(watched))
    pictures = data.PREPROCESS.apply(data.training().images[:128])
    measured = dict(zip(runner.output_names, runner.run(Samples(pictures)), strict=True))
    found = known(digits_bn, reach=6)
    for name, array in measured.items():
        assert isinstance(array, np.ndarray)
        size = max(abs(found[name].low), abs(found[name].high))
        assert 0.4 < size / np.abs(array).max() < 6, name


def test_a_teacher_tells_the_ranges_of_a_folded_file(digits_bn: Path, digits_folded: Path) -> None:
    assert known(digits_folded) == {}
    own, taught = known(digits_bn), known(digits_folded, digits_bn)
    assert len(own) == len(taught)
    for mine, theirs in zip(own.values(), taught.values(), strict=True):
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), rel=1e-5)


def test_a_teacher_of_another_structure_tells_nothing(digits_folded: Path, tiny: Model, tmp_path: Path) -> None:
    onnx.save(tiny(channels=1, size=16, classes=10), tmp_path / "other.onnx")
    assert known(digits_folded, tmp_path / "other.onnx") == {}


def test_calibration_needs_no_sample(digits_bn: Path, tmp_path: Path) -> None:
    result = calibrate(digits_bn, synth="analytic", preprocess=data.PREPROCESS, count=16, output=tmp_path / "out")
    assert result.report["samples"]["method"] == "analytic"
    assert result.report["calibration"]["known_ranges"] == len(prepared_of(digits_bn).placement.activations)
    # The ranges are the closed ones as they stand: no headroom, and no look at the samples.
    expected = known(digits_bn)
    for name, encoding in result.encodings.items():
        if name in expected and expected[name].high > 0 > expected[name].low:
            assert encoding.range.high == pytest.approx(expected[name].high, rel=0.02), name
    pictures = data.held_out()
    truth = Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
    assert result.model_path is not None
    scores = evaluate(digits_bn, result.model_path, truth).comparison.scores
    assert scores is not None
    assert scores.agreement > 98


def test_the_way_out_is_said_where_nothing_is_known(digits_folded: Path) -> None:
    result = calibrate(digits_folded, synth="analytic", preprocess=data.PREPROCESS, count=8)
    words = "tells no range without samples: no BatchNormalization is left .* with it kept as --teacher"
    assert any(re.search(words, note) for note in result.report["warnings"])
    assert result.report["calibration"]["known_ranges"] == 0


def test_what_has_no_closed_form_is_measured(model_of: Model) -> None:
    ones = np.ones(4, np.float32)
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "s": ones, "v": np.ones((4, 4, 1, 1), np.float32)}
    nodes = "c = Conv(x, w) b = BatchNormalization(c, s, s, s, s) l = LpNormalization<axis=1>(b) y = Conv(l, v)"
    result = calibrate(model_of("float[n,3,4,4] x", "float[n,4,4,4] y", nodes, weights), synth="analytic", count=8)
    note = "no range in closed form for 'l' and 1 more of 4 tensors: measured on samples"
    assert note in result.report["warnings"]
    assert result.report["calibration"]["known_ranges"] == 2


def test_equalized_weights_have_other_ranges(digits_bn: Path) -> None:
    result = calibrate(digits_bn, synth="analytic", preprocess=data.PREPROCESS, count=8, refine=["equalize"])
    assert any("end where equalize moves scales" in note for note in result.report["warnings"])
    assert result.report["calibration"]["known_ranges"] == 0


def test_its_samples_are_procedural(digits_bn: Path) -> None:
    made, drawn = (synthesize(digits_bn, synth=name, count=3) for name in ("analytic", "procedural"))
    np.testing.assert_array_equal(made.images, drawn.images)


def test_a_reach_below_zero_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^analytic: reach=-1 must be above 0$"):
        find_plugin("synthesizers", "analytic")(reach=-1.0)
