"""Models that are fed their own states: errors that add up, and errors that do not."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.judge import SNR
from dfq_deploy.verdict.streaming import streaming_findings

COUNT, SIZE = 48, 4


def model(keep: float, factor: float = 1.0) -> onnx.ModelProto:
    """A state that keeps a part of itself and takes up each frame; the output is a multiple of it."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] speech, float[1,4] state) => '
        f"(float[1,4] y, float[1,4] state_out) <float keep = {{{keep}}}, float factor = {{{factor}}}> "
        "{ m = Mul(state, keep) state_out = Add(m, speech) y = Mul(state_out, factor) }"
    )


def frames() -> Samples:
    drawn: NDArray[np.float32] = np.random.default_rng(0).normal(1, 0.2, (COUNT, SIZE)).astype(np.float32)
    return Samples(drawn, extra={"state": np.zeros_like(drawn)})


def found(quantized: onnx.ModelProto, stated: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    source = load(model(0.9))
    runners = Runner(source), Runner(load(quantized))
    return streaming_findings(source, runners, frames(), stated)


@pytest.mark.parametrize(("keep", "level"), [(0.9, "OK"), (0.88, "OK"), (0.85, "CHECK"), (0.6, "BAD")])
def test_errors_of_the_state_add_up(keep: float, level: str) -> None:
    (finding,) = found(model(keep))
    exact, rounded, signal, noise = np.zeros(SIZE), np.zeros(SIZE), 0.0, 0.0
    for index, frame in enumerate(frames().images.astype(np.float64)):
        exact, rounded = (np.zeros(SIZE), np.zeros(SIZE)) if index % 16 == 0 else (exact, rounded)
        exact, rounded = 0.9 * exact + frame, keep * rounded + frame
        signal, noise = signal + np.square(exact).sum(), noise + np.square(exact - rounded).sum()
    assert (finding.code, finding.level) == ("streaming", level)
    assert finding.figures is not None
    if keep != 0.9:
        assert finding.figures["snr_db"] == pytest.approx(10 * np.log10(signal / noise), abs=0.05)
        assert finding.figures["given_db"] > finding.figures["snr_db"] + 3
        assert "over 16 steps on states of its own" in finding.message


def test_probabilities_are_no_more_than_doubtful() -> None:
    """A detector of speech may answer the same at few decibels."""
    floats, rounded = (model(keep, -1.0) for keep in (0.9, 0.6))
    for entry in (floats, rounded):
        entry.graph.node[-1].output[0] = "z"
        entry.graph.node.append(onnx.helper.make_node("Sigmoid", ["z"], ["y"]))
    source = load(floats)
    (finding,) = streaming_findings(source, (Runner(source), Runner(load(rounded))), frames())
    assert finding.figures is not None
    assert finding.figures["snr_db"] < SNR.bad
    assert finding.level == "CHECK"


def test_errors_of_a_step_are_judged_elsewhere() -> None:
    (finding,) = found(model(0.9, 0.5))
    assert finding.level == "OK"
    assert finding.figures is not None
    assert finding.figures["snr_db"] == pytest.approx(finding.figures["given_db"]) == pytest.approx(6.02, abs=0.01)


def test_nothing_for_models_without_states_and_for_stated_values() -> None:
    assert found(model(0.6), ("state",)) == ()
    relu = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,4] x) => (float[n,4] y) {y = Relu(x)}'
    plain = load(onnx.parser.parse_model(relu))
    runner = Runner(plain)
    assert streaming_findings(plain, (runner, runner), Samples(frames().images)) == ()
