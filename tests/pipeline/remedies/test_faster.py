"""What is done about a result that is slower than float, with times that the test makes up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from dfq_deploy import ModelError, Samples, calibrate
from dfq_deploy.evaluation.latency import Speed
from dfq_deploy.graph.reading import read_any
from dfq_deploy.pipeline.remedies import faster
from dfq_deploy.pipeline.remedies.attempts import Bench
from dfq_deploy.pipeline.remedies.steps import Remedies
from dfq_deploy.runtime.profile import NodeTime
from examples.digits import data

GIVEN: dict[str, Any] = {"synth": "procedural", "count": 32, "preprocess": data.PREPROCESS}

FIRST = "/features/features.0/Conv"


def speed(ratio: float) -> Speed:
    return Speed(1, 1.0, 1 / ratio, ratio, ratio - 0.02, ratio + 0.02, 24)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the speeds of the results in turn; layers take 5 ms in float and ``cost`` in integers, but ``slow`` 9."""

    def use(*ratios: float, slow: str = FIRST, cost: float = 3.0) -> None:
        found: Iterator[float] = iter(ratios)

        def times(source: Any, batch: Samples) -> tuple[NodeTime, ...]:
            quantized = isinstance(source, Path)
            costs = {str(node.name): cost if quantized else 5.0 for node in read_any(source).graph}
            costs |= {slow: 9.0} if quantized else {}
            return tuple(NodeTime(name, "", milliseconds) for name, milliseconds in costs.items())

        monkeypatch.setattr(Bench, "speed", lambda bench, result: speed(next(found)))
        monkeypatch.setattr(faster, "node_times", times)
        monkeypatch.setattr(faster, "_conversions", lambda model, times, layers: {})

    return use


def steps(result: Any) -> tuple[Any, ...]:
    assert isinstance(result.report.remedies, Remedies)
    return result.report.remedies.steps


def floats(path: Path | None) -> set[str]:
    """Names of the convolutions that read no DequantizeLinear."""
    model = onnx.load(path or "")
    written = {output: node.op_type for node in model.graph.node for output in node.output}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    return {node.name for node in convs if written.get(node.input[1]) != "DequantizeLinear"}


def test_the_layer_that_is_slower_in_integers_stays_float(digits_folded: Path, tmp_path: Path, timed: Any) -> None:
    timed(0.8, 1.2)
    result = calibrate(digits_folded, output=tmp_path / "out", **GIVEN)
    (step,) = steps(result)
    assert (step.name, step.kept, FIRST in step.what) == ("faster", True, True)
    assert step.slowdown == pytest.approx(0.8 / 1.2)
    assert floats(result.model_path) == {FIRST}


def test_the_input_stays_quantized_where_bytes_are_fed(digits_folded: Path, tmp_path: Path, timed: Any) -> None:
    timed(0.8)
    result = calibrate(digits_folded, output=tmp_path / "out", integer_io=True, **GIVEN)
    (step,) = steps(result)
    assert not step.kept
    assert "no bytes could be fed" in step.reason
    assert (tmp_path / "out/model.integer.onnx").is_file()


def test_what_cannot_be_timed_stays_as_it_is(digits_folded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ModelError("it cannot be run")

    monkeypatch.setattr(Bench, "speed", refuse)
    assert steps(calibrate(digits_folded, **GIVEN)) == ()


def test_half_of_the_layers_stay_quantized(digits_folded: Path, tmp_path: Path, timed: Any) -> None:
    timed(0.8, 1.2, cost=6.0)
    result = calibrate(digits_folded, output=tmp_path / "out", **GIVEN)
    (step,) = steps(result)
    assert step.what.startswith(f"float for the 5 layers that are slower in integers: {FIRST}")
    assert len(floats(result.model_path)) <= 5


def test_what_is_not_faster_changes_no_byte(digits_folded: Path, tmp_path: Path, timed: Any) -> None:
    timed(0.8, 0.81)
    tried = calibrate(digits_folded, output=tmp_path / "tried", **GIVEN)
    (step,) = steps(tried)
    assert (step.kept, step.reason) == (False, "it is not faster")
    bare = calibrate(digits_folded, output=tmp_path / "bare", floor="none", **GIVEN)
    assert (tried.model_path or Path()).read_bytes() == (bare.model_path or Path()).read_bytes()


def test_nothing_is_tried_for_a_model_of_no_time(
    digits_folded: Path, timed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(0.8)
    monkeypatch.setattr(faster, "LEAST_MS", 2.0)
    assert steps(calibrate(digits_folded, **GIVEN)) == ()


def test_nothing_is_tried_where_it_is_faster_than_float(digits_folded: Path, timed: Any) -> None:
    timed(1.1)
    assert steps(calibrate(digits_folded, **GIVEN)) == ()


def test_nothing_is_tried_where_no_single_layer_is_slower(digits_folded: Path, timed: Any) -> None:
    timed(0.8, slow="")
    assert steps(calibrate(digits_folded, **GIVEN)) == ()


def test_nothing_is_timed_for_a_target_that_runs_elsewhere(digits_folded: Path, timed: Any) -> None:
    timed()
    assert steps(calibrate(digits_folded, target="tensorrt", **GIVEN)) == ()


def test_conversions_count_for_the_layers_around_them(digits_folded: Path, tmp_path: Path) -> None:
    result = calibrate(digits_folded, output=tmp_path / "out", floor="none", **GIVEN)
    model = read_any(result.model_path or "")
    layers = frozenset(str(node.name) for node in model.graph if node.op_type in ("Conv", "Gemm"))
    quantize = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    first, second = quantize[0], quantize[1]
    found = faster._conversions(model, {str(first.name): 2.0, str(second.name): 1.0}, layers)
    assert sum(found.values()) == pytest.approx(3.0)
    assert found[FIRST] >= 2.0
