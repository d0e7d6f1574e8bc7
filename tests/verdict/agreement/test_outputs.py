"""The noise of outputs: on inputs on which they show something."""

import math

import numpy as np
import onnx
import pytest
from onnx import parser

from dfq_deploy import Samples
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.output_distance import OutputDistance, OutputTally
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement, KindAgreement, agreement_of, measure_agreement
from dfq_deploy.verdict.agreement.outputs import OutputNoise, worst_noise
from dfq_deploy.verdict.judge import agreement_finding

SIDE = 80


def _distance(rows: np.ndarray, found: np.ndarray, span: float | None = 1.0) -> OutputDistance:
    tally = OutputTally(span)
    tally.add(rows, found, rows=True)
    return tally.distance("map")


def test_what_shows_something_by_hand() -> None:
    """Spreads of 0.5, 0.05 and 0 in float and of 0.5, 0.2 and 0 behind it, out of a span of 1."""
    rows = np.array([[0, 0.5], [0, 0.05], [0.3, 0.3]])
    found = np.array([[0, 0.5], [0, 0.2], [0.3, 0.3]])
    distance = _distance(rows, found)
    assert distance.shown == pytest.approx(1 / 3)
    assert distance.invented == pytest.approx(1 / 3)
    assert distance.signal == pytest.approx((0.25 + 0.0025 + 0.18) / 3)
    assert distance.noise == pytest.approx(0.0225 / 3)
    assert _distance(rows / 100, found / 100).shown == 0
    assert _distance(rows / 100, found / 100, None).shown == pytest.approx(2 / 3)


def test_an_output_of_zeros_shows_nothing_and_single_values_always_do() -> None:
    zeros = np.zeros((4, 5))
    assert (_distance(zeros, zeros, None).shown, _distance(zeros, zeros, None).invented) == (0, 0)
    assert _distance(zeros, zeros + np.arange(5), None).invented == 1
    assert _distance(np.zeros((4, 1)), np.ones((4, 1))).shown == 1


def _agreement(**kinds: OutputDistance) -> Agreement:
    return agreement_of([KindAgreement(kind, False, Comparison(40, (found,), None)) for kind, found in kinds.items()])


def _found(snr: float, shown: float, invented: float = 0.0, noise: float = 0.0) -> OutputDistance:
    return OutputDistance("map", snr, 1.0, shown, invented, signal=10.0, noise=noise)


def test_the_best_kind_on_which_an_output_shows_something_decides() -> None:
    usual = worst_noise(_agreement(photographs=_found(25, 1), procedural=_found(5, 1)))
    assert usual is not None
    assert (usual.kind, usual.snr, usual.empty) == ("photographs", 25, False)
    text = worst_noise(_agreement(photographs=_found(2, 0.1), procedural=_found(0, 0), written=_found(21, 0.9)))
    assert text is not None
    assert (text.kind, text.snr, text.empty) == ("written", 21, False)
    few = worst_noise(_agreement(photographs=_found(15, 0.2), procedural=_found(0, 0)))
    assert few is not None
    assert (few.kind, few.snr, few.empty) == ("photographs", 15, False)


def test_noise_where_float_shows_nothing_counts() -> None:
    """A mean power of 1 on photographs against a signal of 10 on text is 10 dB."""
    found = _agreement(photographs=_found(-20, 0, noise=1.0), written=_found(30, 1))
    noise = worst_noise(found)
    assert noise is not None
    assert noise.snr == pytest.approx(10)
    assert agreement_finding(found).level == "BAD"


def test_an_empty_output_is_no_reason_to_condemn() -> None:
    finding = agreement_finding(_agreement(photographs=_found(3, 0.1), procedural=_found(-5, 0)))
    assert finding.level == "CHECK"
    assert "shows something on 4 of 40 inputs (photographs)" in finding.message
    assert "say nothing of its noise" in finding.message
    assert finding.figures == {"snr_db": 3, "shown": 0.1, "invented": 0}


def test_what_is_found_where_there_is_nothing_condemns() -> None:
    finding = agreement_finding(_agreement(photographs=_found(-math.inf, 0, invented=0.5)))
    assert finding.level == "BAD"
    assert "the quantized model's on 50 % where float's does not" in finding.message


def _detector(scale: float = 1.0, low: float = 4.0, tilt: float = 0.0) -> bytes:
    """Probabilities of contrast between neighbouring pixels: next to none on smooth pictures, some on text."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        f" m (float[n,1,{SIDE},{SIDE}] x) => (float[n,1,{SIDE},{SIDE}] map)"
        f" <float[1,1,1,3] w = {{-1,1,0}}, float s = {{{scale}}}, float low = {{{low}}}, float t = {{{tilt}}}>"
        " { e = Conv<pads=[0,1,0,1]>(x, w) a = Abs(e) b = Mul(a, s) c = Sub(b, low) d = Mul(c, t) f = Sub(c, d)"
        " map = Sigmoid(f) }"
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _smooth(count: int = 12) -> Samples:
    shades = np.linspace(0, 1, SIDE, dtype=np.float32)
    images = shades[None, None, None, :] * np.linspace(0.3, 1, count, dtype=np.float32).reshape(-1, 1, 1, 1)
    return Samples(np.broadcast_to(images, (count, 1, SIDE, SIDE)).copy())


def test_a_text_detector_is_judged_on_text() -> None:
    sets = [HeldOut("photographs", _smooth(), False)]
    found = measure_agreement(_detector(12.0, 6.0), _detector(12.0, 6.0, 0.01), sets)
    assert [kind.kind for kind in found.kinds] == ["photographs", "written"]
    assert found.kinds[0].comparison.outputs[0].shown == 0
    noise = worst_noise(found)
    assert noise is not None
    assert (noise.kind, noise.empty) == ("written", False)
    assert agreement_finding(found).level == "OK"
    broken = measure_agreement(_detector(12.0, 6.0), _detector(2.0, 6.0), sets)
    assert agreement_finding(broken).level == "BAD"


def test_an_output_that_shows_nothing_on_text_either_is_worth_a_look() -> None:
    sets = [HeldOut("photographs", _smooth(), False)]
    found = measure_agreement(_detector(1.0, 9.0), _detector(1.0, 8.0), sets)
    finding = agreement_finding(found)
    assert (finding.level, finding.code) == ("CHECK", "output-noise")


def test_places_count_where_there_is_nothing_else() -> None:
    values, places = OutputDistance("values", 33.0, 0.1), OutputDistance("places", 14.0, 9.0, integers=True)
    both = KindAgreement("procedural", False, Comparison(64, (values, places), None))
    assert both.worst_output == ("values", 33.0)
    assert worst_noise(Agreement((both,), None)) == OutputNoise("values", 33.0, 64, "procedural")
    alone = KindAgreement("procedural", False, Comparison(64, (places,), None))
    assert alone.worst_output == ("places", 14.0)
    assert worst_noise(Agreement((alone,), None)) == OutputNoise("places", 14.0, 64, "procedural")
