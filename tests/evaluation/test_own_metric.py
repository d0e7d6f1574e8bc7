"""A metric of the user's own: what it is given, and what it may return."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfq_deploy import Samples
from dfq_deploy.errors import OptionError
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.evaluation.own_metric import MetricFigures, measure_metric
from tests.conftest import ModelOf


def test_it_gets_all_outputs_of_either_model_and_the_labels(
    digits_bn: Path, digits_int8: Path, held_out: Samples
) -> None:
    given: list[tuple[dict[str, Any], Any]] = []

    def right(outputs: dict[str, Any], labels: Any) -> float:
        given.append((outputs, labels))
        return float((outputs["scores"].argmax(axis=1) == labels).mean())

    found = evaluate(digits_bn, digits_int8, held_out, metric=right)
    assert len(given) == 2
    for (outputs, labels), path in zip(given, (digits_bn, digits_int8), strict=True):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (expected,) = session.run(["scores"], {"image": held_out.images})
        np.testing.assert_allclose(outputs["scores"], expected, atol=1e-4)
        assert held_out.labels is not None
        np.testing.assert_array_equal(labels, held_out.labels)
    scores = found.comparison.scores
    assert scores is not None
    assert found.metric is not None
    assert found.metric.name == "right"
    assert (100 * found.metric.of_float, 100 * found.metric.of_quantized) == pytest.approx(
        (scores.float_top1, scores.quantized_top1)
    )
    assert found.to_json()["metric"]["name"] == "right"


def test_outputs_are_kept_only_for_a_metric(
    digits_bn: Path, digits_int8: Path, held_out: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfq_deploy.evaluation.evaluate.OutputStore", None)
    assert evaluate(digits_bn, digits_int8, held_out.part(slice(8))).metric is None


@pytest.mark.parametrize("batch", ["n", "2"])
def test_outputs_whose_size_depends_on_the_sample_come_run_by_run(
    model_of: ModelOf, tmp_path: Path, batch: str
) -> None:
    model = model_of(f"float[{batch},3] x", "int64[2,m] found", "found = NonZero(x)", {})
    onnx.save(model, tmp_path / "found.onnx")
    images = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]], np.float32)
    seen: list[Any] = []

    def count(outputs: dict[str, Any], labels: Any) -> float:
        seen.append((outputs["found"], labels))
        return float(sum(run.shape[1] for run in outputs["found"]))

    found = evaluate(tmp_path / "found.onnx", tmp_path / "found.onnx", Samples(images), metric=count)
    assert found.metric == MetricFigures("count", 7.0, 7.0)
    runs, labels = seen[0]
    assert labels is None
    assert [run.shape[1] for run in runs] == ([7] if batch == "n" else [3, 4])


def _raises(outputs: dict[str, Any], labels: Any) -> float:
    raise KeyError("boxes")


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (_raises, r"metric '_raises' raises KeyError: 'boxes' \(.*test_own_metric\.py, line \d+\)"),
    "nan": (lambda o, y: float("nan"), "metric '<lambda>' returns nan; it has to return a finite number"),
    "infinity": (lambda o, y: np.float32("-inf"), "metric '<lambda>' returns -inf; it has to return a finite number"),
    "array": (lambda o, y: np.ones(3), r"returns an array of shape \(3,\); it has to return one number"),
    "none": (lambda o, y: None, "returns None; it has to return one number"),
    "truth": (lambda o, y: True, "returns a value of type bool; it has to return one number"),
    "text": (lambda o, y: "0.9", "returns a value of type str; it has to return one number"),
    "signature": (lambda o: 0.0, r"raises TypeError: .*takes 1 positional argument but 2 were given"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_number_is_refused_in_one_line(case: str) -> None:
    metric, words = WRONG[case]
    with pytest.raises(OptionError) as caught:
        measure_metric(metric, {}, {}, None)
    assert re.search(words, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.array(0.5), np.int64(2)])
def test_numbers_of_any_kind_are_taken(value: Any) -> None:
    two, one = ({"y": np.full(1, factor)} for factor in (2, 1))
    found = measure_metric(lambda outputs, labels: value * int(outputs["y"][0]), two, one, None)
    assert (found.of_float, found.of_quantized, found.drop) == (2 * float(value), float(value), float(value))
