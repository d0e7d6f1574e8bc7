"""Mixed precision: the frontier by hand, budgets on the example's network, and what is refused."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.errors import OptionError, TargetError
from dfq_deploy.refinement.mixed_precision.frontier import FileSize, frontier
from dfq_deploy.refinement.mixed_precision.knapsack import widths_within
from dfq_deploy.samples.preprocess import Preprocess
from tests.conftest import ModelOf

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))


@pytest.fixture(scope="module")
def samples(digits_bn: Path) -> Samples:
    return synthesize(digits_bn, synth="procedural", count=32, preprocess=PIXELS)


def test_the_cheapest_byte_is_saved_first() -> None:
    errors = {"small": {8: 0.0, 4: 1.0, 2: 9.0}, "large": {8: 0.0, 4: 1.0, 2: 4.0}}
    curve = frontier(errors, {"small": 100, "large": 300}, FileSize(in_float=1600, widest=400, saved=1 / 8))
    # Error for each bit saved: large 8 to 4 1/1200, large 4 to 2 3/600, small 8 to 4 1/400, small 4 to 2 8/200.
    assert [(point.layer, point.bits) for point in curve] == [
        ("", 8),
        ("large", 4),
        ("small", 4),
        ("large", 2),
        ("small", 2),
    ]
    np.testing.assert_allclose([point.error for point in curve], [0, 1, 2, 5, 13])
    np.testing.assert_allclose([point.size for point in curve], [0.25, 2000 / 12800, 0.125, 1000 / 12800, 0.0625])


def test_what_lies_above_the_hull_is_never_chosen() -> None:
    curve = frontier({"only": {8: 0.0, 6: 5.0, 4: 1.0}}, {"only": 10}, FileSize(40, 10, 1 / 8))
    assert [(point.bits, point.error) for point in curve] == [(8, 0.0), (4, 1.0)]


def test_the_best_widths_of_all_within_a_size_are_found() -> None:
    rng = np.random.default_rng(0)
    errors = {f"w{index}": {8: 0.0, 4: float(rng.exponential())} for index in range(10)}
    parameters = {name: int(rng.integers(10, 1000)) for name in errors}
    bits = 6.1 * sum(parameters.values())

    def cost(widths: Mapping[str, int]) -> float:
        return sum(errors[name][width] for name, width in widths.items())

    def fits(widths: Mapping[str, int]) -> bool:
        return sum(width * parameters[name] for name, width in widths.items()) <= bits

    every = (dict(zip(errors, chosen, strict=True)) for chosen in product((8, 4), repeat=10))
    found = widths_within(errors, parameters, bits)
    assert found is not None
    assert fits(found)
    assert cost(found) == pytest.approx(min(cost(widths) for widths in every if fits(widths)))


def test_a_size_that_nothing_fits_into_has_no_widths_and_a_large_one_the_widest() -> None:
    errors, parameters = {"one": {8: 0.0, 4: 0.0}, "other": {8: 0.0, 4: 1.0}}, {"one": 7, "other": 9}
    assert widths_within(errors, parameters, 63) is None
    assert widths_within(errors, parameters, 64) == {"one": 4, "other": 4}
    assert widths_within(errors, parameters, 10**6) == {"one": 8, "other": 8}


@pytest.mark.parametrize("size", [0.49, 0.43])
def test_a_size_that_is_asked_for_is_the_size_that_is_written(
    digits_bn: Path, samples: Samples, tmp_path: Path, size: float
) -> None:
    options: dict[str, Any] = {"preprocess": PIXELS, "refine": ("bias",), "floor": "none"}
    result = calibrate(digits_bn, data=samples, bits="auto", size=size, output=tmp_path / "mixed", **options)
    path = tmp_path / "mixed/model.qdq.onnx"
    written = path.stat().st_size / digits_bn.stat().st_size
    assert 0.98 * size < written <= 1.002 * size
    weights = {row["name"] for row in result.report["tensors"] if row["kind"] == "weight"}
    stored = [
        tensor for tensor in onnx.load(path).graph.initializer if tensor.name.removesuffix("_quantized") in weights
    ]
    assert len({tensor.data_type for tensor in stored}) > 1
    report = result.report["calibration"]
    assert report["tradeoff"][report["chosen"]]["size"] == pytest.approx(written, rel=0.01)
    errors = [point["error"] for point in report["tradeoff"]]
    assert errors == sorted(errors)


def test_mixed_widths_are_better_than_equal_ones_of_nearly_that_size(digits_bn: Path, samples: Samples) -> None:
    options: dict[str, Any] = {"preprocess": PIXELS, "refine": ()}
    equal = calibrate(digits_bn, data=samples, bits="w4a8", **options)
    mixed = calibrate(digits_bn, data=samples, bits="auto", size=0.42, **options)
    snr = [result.report["comparison"]["outputs"][0]["snr_db"] for result in (mixed, equal)]
    assert snr[0] > snr[1] + 1


def test_a_drop_is_kept(digits_bn: Path, samples: Samples) -> None:
    report = calibrate(digits_bn, data=samples, drop=5.0, preprocess=PIXELS, refine=()).report["calibration"]
    assert report["disagreement"] <= 5.0
    assert 0 < report["chosen"] < len(report["tradeoff"]) - 1


def test_a_model_without_weights_has_no_widths_to_choose(model_of: ModelOf) -> None:
    model = model_of("float[n,3,8,8] x", "float[n,3,8,8] y", "y = Add(x, c)", {"c": np.ones((3, 8, 8), np.float32)})
    with pytest.raises(TargetError, match="no weight that is quantized, so there are no widths to choose"):
        calibrate(model, synth="procedural", bits="auto", size=1.0)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"bits": "auto"}, OptionError, "auto needs either a size .* or a drop"),
        ({"bits": "auto", "size": 0.2, "drop": 1.0}, OptionError, "and not both"),
        ({"bits": "w4a4", "size": 0.2}, OptionError, "a size or a drop needs bits=auto; w4a4 fixes the widths"),
        ({"size": 40.0}, OptionError, "a size of 40 is not a fraction from 0 to 1; give e.g. 0.18 or 18%"),
        ({"size": 0.2, "edge_bits": 8}, OptionError, "omit the edge bits"),
        (
            {"size": 0.01},
            TargetError,
            "1.0% of the float file cannot be reached: with all weights at 4 bits the file takes",
        ),
    ],
)
def test_budgets_that_cannot_be_are_refused(
    digits_bn: Path, samples: Samples, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        calibrate(digits_bn, data=samples, preprocess=PIXELS, **options)
