"""Agreement kind by kind, and what it predicts."""

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy import Samples
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.verdict.agreement.held_out import HeldOut, held_out_sets
from dfq_deploy.verdict.agreement.measure import measure_agreement
from tests.conftest import TinyModel


def _rolled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its classes renamed, so that every answer is another one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name.startswith("fc."):
            tensor.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(tensor), 1, axis=0), tensor.name))
    return copy


def _images(count: int, seed: int = 0) -> Samples:
    return Samples(np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32))


def test_equal_models_agree_everywhere(tiny: TinyModel) -> None:
    model = tiny(size=16)
    found = measure_agreement(
        model.SerializeToString(), model.SerializeToString(), held_out_sets(load(model), _images(8), count=16)
    )
    intervals = {kind.kind: kind.agreement for kind in found.kinds}
    assert all(interval is not None and interval.value == 100 for interval in intervals.values())
    assert found.kinds[2].worst_output == ("scores", np.inf)
    assert found.predicted is not None
    assert found.predicted.kind == "photographs"
    assert found.predicted.value > 99.9


def test_a_model_of_other_answers_is_predicted_to_disagree(tiny: TinyModel) -> None:
    model = tiny(size=16)
    broken = _rolled(model)
    found = measure_agreement(
        model.SerializeToString(), broken.SerializeToString(), held_out_sets(load(model), _images(8), count=16)
    )
    assert found.predicted is not None
    assert [kind.comparison.scores.agreement for kind in found.kinds if kind.comparison.scores] == [0, 0, 0]
    assert found.predicted.value < 80
    assert found.to_json()["kinds"][2]["kind"] == "photographs"


def test_a_set_that_was_compared_before_is_not_run_again(tiny: TinyModel) -> None:
    float_file, broken = tiny(size=16).SerializeToString(), _rolled(tiny(size=16)).SerializeToString()
    sets = [HeldOut("data", _images(8), True), HeldOut("photographs", _images(16, 1), False)]
    known = compare(float_file, broken, sets[0].samples)
    found = measure_agreement(float_file, broken, sets, known=known)
    assert found.kinds[0].comparison is known
    assert found.to_json() == measure_agreement(float_file, broken, sets).to_json()


def test_enough_held_out_data_are_measured_and_not_predicted(tiny: TinyModel) -> None:
    model = tiny(size=16)
    float_file, broken = model.SerializeToString(), _rolled(model).SerializeToString()
    data, other = HeldOut("data", _images(64), True), HeldOut("photographs", _images(64, 1), False)
    found = measure_agreement(float_file, broken, [data, other])
    assert found.predicted is not None
    assert found.kinds[0].agreement is not None
    assert (found.predicted.kind, found.predicted.value) == ("data", found.kinds[0].agreement.value)
    few = measure_agreement(float_file, broken, [HeldOut("data", _images(8), True), other])
    assert few.predicted is not None
    assert few.predicted.kind == "photographs"


@pytest.mark.parametrize("calibrated", [True, False])
def test_photographs_that_calibrated_do_not_predict(tiny: TinyModel, calibrated: bool) -> None:
    model = tiny(size=16).SerializeToString()
    sets = [HeldOut("photographs", _images(16), calibrated), HeldOut("procedural", _images(16, 1), False)]
    found = measure_agreement(model, model, sets).predicted
    assert found is not None
    assert found.kind == ("procedural" if calibrated else "photographs")


def test_more_inputs_are_drawn_only_where_few_leave_doubt(tiny: TinyModel) -> None:
    model = tiny(size=16)
    float_file = model.SerializeToString()
    drawn: list[str] = []

    def sets() -> list[HeldOut]:
        def further(kind: str, seed: int) -> Samples:
            drawn.append(kind)
            return _images(12, seed)

        return [
            HeldOut(kind, _images(8, seed), False, partial(further, kind, seed + 10))
            for seed, kind in enumerate(("procedural", "photographs"))
        ]

    clear = measure_agreement(float_file, float_file, sets())
    assert clear.is_settled
    assert [kind.comparison.count for kind in clear.kinds] == [8, 8]
    assert drawn == []
    mixed = _partly(model).SerializeToString()
    few = measure_agreement(float_file, mixed, sets(), further=False)
    assert not few.is_settled
    assert [kind.comparison.count for kind in few.kinds] == [8, 8]
    assert drawn == []
    many = measure_agreement(float_file, mixed, sets())
    assert [kind.comparison.count for kind in many.kinds] == [20, 20]
    assert len(drawn) == 2
    assert many.is_settled  # nothing more can be drawn
    assert measure_agreement(float_file, mixed, sets()).to_json() == many.to_json()


def _partly(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with scores that are so noisy that some answers change."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name.startswith("fc.w"):
            weight = numpy_helper.to_array(tensor)
            noise = np.random.default_rng(0).normal(size=weight.shape) * weight.std() * 0.5
            tensor.CopyFrom(numpy_helper.from_array((weight + noise).astype(np.float32), tensor.name))
    return copy
