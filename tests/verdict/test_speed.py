"""Findings on integers and speed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy.evaluation.latency import Speed
from dfq_deploy.runtime.kernel_count import Kernel, KernelCount
from dfq_deploy.runtime.profile import NodeTime
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.speed import count_findings, judge_speed, speed_findings

ModelOf = Callable[..., onnx.ModelProto]


def counted(*kernels: Kernel) -> KernelCount:
    return KernelCount(kernels, 2, (), "ONNX Runtime 9 on CPU")


CONV = Kernel("stem", "Conv", "QLinearConv", "integer", 900)
SMALL = Kernel("head", "Conv", "Conv", "float", 90)
FUSED = Kernel("fc", "MatMul", "Gemm", "float", 600, dequantized=True)


def timed(ratio: float, low: float, high: float, float_ms: float = 1.0) -> Speed:
    return Speed(1, float_ms, float_ms / ratio, ratio, low, high, 60)


@pytest.mark.parametrize(
    ("count", "code", "level"),
    [
        (counted(CONV), "layers-in-int8", "OK"),
        (counted(CONV, SMALL), "layers-in-float", "OK"),
        (counted(CONV, FUSED), "layers-in-float", "CHECK"),
        (counted(FUSED), "nothing-quantized", "BAD"),
        (counted(), "nothing-quantized", "BAD"),
    ],
)
def test_where_layers_run(count: KernelCount, code: str, level: str) -> None:
    (finding,) = count_findings(count)
    assert (finding.code, finding.level) == (code, level)


def test_a_layer_in_float_is_named_with_the_way_out() -> None:
    (finding,) = count_findings(counted(CONV, FUSED))
    assert finding.message == (
        "1 of 2 layers in INT8 (60.0 % of the products); float in ONNX Runtime 9 on CPU: MatMul 'fc'"
    )
    assert "[1, 1, N]" in finding.remedy
    (plain,) = count_findings(counted(CONV, SMALL))
    assert "inspect with --verbose" in plain.remedy


@pytest.mark.parametrize(
    ("speed", "code", "level"),
    [
        (timed(2.0, 1.9, 2.1), "faster-than-float", "OK"),
        (timed(1.1, 0.8, 1.4), "faster-than-float", "OK"),
        (timed(1.0, 0.9, 1.1), "as-fast-as-float", "CHECK"),
        (timed(0.5, 0.4, 0.6), "slower-than-float", "BAD"),
        # The interval does not exclude that it is as fast.
        (timed(0.9, 0.7, 1.1), "slower-than-float", "CHECK"),
        # 5 and 10 microseconds, and 0.5 and 0.59 milliseconds: calls and conversions, not layers.
        (timed(0.85, 0.84, 0.86, float_ms=0.5), "slower-than-float", "CHECK"),
        (timed(0.5, 0.4, 0.6, float_ms=0.005), "slower-than-float", "CHECK"),
        (timed(1.0, 0.9, 1.1, float_ms=0.005), "as-fast-as-float", "OK"),
    ],
)
def test_how_fast_it_is(speed: Speed, code: str, level: str) -> None:
    finding = judge_speed(speed, counted(CONV))
    assert (finding.code, finding.level) == (code, level)


def test_slower_with_the_nodes_to_blame() -> None:
    slow = (NodeTime("w_dq", "DequantizeLinear", 0.4), NodeTime("fc", "Gemm", 0.1), NodeTime("s", "Softplus", 0.05))
    finding = judge_speed(timed(0.5, 0.4, 0.6), counted(CONV, FUSED), slow)
    assert finding.message == (
        "slower than float: 2 ms against 1 ms in float: 0.50 times as fast (0.40 to 0.60, one thread of this CPU); "
        "the time goes to DequantizeLinear (+0.4 ms: 'w_dq'), Gemm (+0.1 ms: 'fc')"
    )
    assert "float Gemm" in finding.remedy
    small = Kernel("head", "Conv", "Conv", "float", 9, dequantized=True)  # a hundredth of the products
    rest = judge_speed(timed(0.5, 0.4, 0.6), counted(CONV, small), (NodeTime("s", "Softplus", 0.05),))
    assert rest.remedy.startswith("float operators between integer layers")
    around = judge_speed(timed(0.5, 0.4, 0.6), counted(CONV), (NodeTime("s", "Softplus", 0.05),))
    assert around.remedy.startswith("float operators between integer layers")
    inside = judge_speed(timed(0.5, 0.4, 0.6), counted(CONV), (NodeTime("stem", "QLinearConv", 0.05),))
    assert inside.remedy.startswith("the integer kernels are slower")


def test_a_layer_behind_dequantize_linear_is_measured(tmp_path: Path, model_of: ModelOf) -> None:
    weights = {"w": np.ones((512, 512), np.float32), "b": np.ones(512, np.float32)}
    inputs, outputs = "float[n,512] x", "float[n,512] y"
    onnx.save(model_of(inputs, outputs, "m = MatMul(x, w) y = Add(m, b)", weights), tmp_path / "float.onnx")
    integers = {
        **{"q": np.ones((512, 512), np.int8), "s": np.ones(512, np.float32), "z": np.zeros(512, np.int8)},
        **{"b": weights["b"], "t": np.array(1, np.float32), "u": np.array(0, np.uint8)},
    }
    nodes = "i = QuantizeLinear(x, t, u) d = DequantizeLinear(i, t, u) e = DequantizeLinear(q, s, z) m = MatMul(d, e) "
    onnx.save(model_of(inputs, outputs, f"{nodes} y = Add(m, b)", integers), tmp_path / "quantized.onnx")
    samples = Samples(np.ones((2, 512), np.float32))
    files = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    floats, slower = speed_findings(*files, samples)
    assert (floats.code, floats.level) == ("nothing-quantized", "BAD")
    assert "MatMul 'm'" in floats.message
    assert (slower.code, slower.level) == ("slower-than-float", "BAD")
    assert "the time goes to DequantizeLinear" in slower.message
    assert "'e'" in slower.message

    _, unmeasured = speed_findings(*files, samples, target="tensorrt")
    assert (unmeasured.code, unmeasured.level) == ("speed-not-measured", "OK")
    assert unmeasured.message == "speed was not measured: tensorrt does not run on this machine"
    # A float model is not timed against itself.
    (alone,) = speed_findings(files[0], files[0], samples)
    assert alone.code == "nothing-quantized"


def test_a_loaded_model_stands_for_its_file(tmp_path: Path, tiny: ModelOf) -> None:
    import dfq_deploy

    source = dfq_deploy.load(tiny(batch=2))
    result = dfq_deploy.calibrate(source, synth="procedural", count=8, output=tmp_path / "q")
    assert result.model_path is not None
    layers, speed = speed_findings(source, result.model_path, result.samples, seconds=0.1)
    assert (layers.code, layers.figures) == (
        "layers-in-int8",
        {"integer": 2, "weight_only": 0, "total": 2, "integer_share": 1.0},
    )
    assert speed.figures is not None
    assert speed.figures["batch"] == 2
    assert speed.level != "BAD"  # it takes some microseconds
