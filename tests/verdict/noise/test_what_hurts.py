"""From a network to a sentence: a fault of each kind is the first to be named, with a way out."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.noise.what_hurts import WhatHurts, what_hurts

ModelOf = Callable[..., onnx.ModelProto]

RNG = np.random.default_rng(0)


def conv(*shape: int) -> NDArray[np.float32]:
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32)


IMAGES = Samples(RNG.normal(0, 1, (16, 3, 12, 12)).astype(np.float32))
HELD = Samples(RNG.normal(0, 1, (8, 3, 12, 12)).astype(np.float32))
PLAIN = "h = Conv<pads=[1,1,1,1]>(x, a) r = Relu(h) c = Conv<pads=[1,1,1,1]>(r, b) p = GlobalAveragePool(c)"


def judged(
    model: onnx.ModelProto,
    target: str = "cpu",
    bits: str = "w8a8",
    wrong: dict[str, float] | None = None,
    refine: tuple[str, ...] = (),
) -> WhatHurts:
    """What hurts after plain calibration; ``wrong``: tensors whose scale is changed by a factor."""
    source = load(model)
    prepared = prepare(source, find_target(target), Bits.parse(bits))
    quantized = encode(prepared, find_plugin("calibrators", "minmax")(), IMAGES)
    encodings = dict(quantized.encodings)
    for name, factor in (wrong or {}).items():
        one = encodings[name]
        encodings[name] = Encoding((one.scale * factor).astype(np.float32), one.zero_point, one.qtype, one.axis)
    ready = quantized.prepared
    return what_hurts(source, ready.model, ready, encodings, HELD, refine=refine, budget_s=None)


@pytest.fixture
def plain(model_of: ModelOf) -> onnx.ModelProto:
    """Two convolutions."""
    weights = {"a": conv(8, 3, 3, 3), "b": conv(8, 8, 3, 3), "f": conv(8, 5)}
    return model_of("float[n,3,12,12] x", "float[n,5] y", f"{PLAIN} t = Flatten(p) y = MatMul(t, f)", weights)


def test_a_range_that_clips(plain: onnx.ModelProto) -> None:
    found = judged(plain, wrong={"r": 0.2})
    worst, finding = found.worst[0], found.findings()[0]
    assert (worst.layer.activations, worst.causes[0].kind) == (("r",), "clipping")
    assert worst.layer.share > 0.9
    assert finding.level == "CHECK"
    assert finding.message.startswith(f"Conv '{worst.layer.node}' alone gives")
    assert "--samples" in finding.remedy
    assert f"--keep-float '{worst.layer.node}'" in finding.remedy
    document = found.to_json()
    assert document["layers"][0]["causes"][0]["kind"] == "clipping"
    assert len(document["layers"]) == len(found.sensitivity.layers)


def test_a_range_that_is_wide(plain: onnx.ModelProto) -> None:
    worst = judged(plain, wrong={"r": 12}).worst[0]
    assert (worst.layer.activations, worst.causes[0].kind) == (("r",), "wide-range")


def test_channels_of_a_weight_at_one_scale(model_of: ModelOf) -> None:
    spread = conv(8, 8, 3, 3) * np.geomspace(0.003, 1, 8).reshape(-1, 1, 1, 1).astype(np.float32)
    after = conv(8, 5) / np.geomspace(0.003, 1, 8).reshape(-1, 1).astype(np.float32)
    weights = {"a": conv(8, 3, 3, 3), "b": spread, "f": after}
    nodes = f"{PLAIN} t = Flatten(p) y = MatMul(t, f)"
    model = model_of("float[n,3,12,12] x", "float[n,5] y", nodes, weights)
    found = judged(model, target="nnapi-per-tensor")
    kinds = {cause.tensor: cause.kind for layer in found.worst for cause in layer.causes}
    assert kinds.get("b", kinds.get("t")) in ("channel-spread", "outlier-channel")
    remedies = [remedy for layer in found.worst for remedy in layer.remedies]
    assert any("--refine equalize" in remedy for remedy in remedies)
    again = judged(model, target="nnapi-per-tensor", refine=("equalize",))
    assert not any("--refine equalize" in remedy for layer in again.worst for remedy in layer.remedies)


def test_few_bits(plain: onnx.ModelProto) -> None:
    worst = judged(plain, bits="w3a8").worst[0]
    assert worst.causes[0].kind == "few-bits"
    assert "--refine reconstruct" in worst.remedies[0]


def test_a_depthwise_convolution_at_few_bits(model_of: ModelOf) -> None:
    nodes = (
        "h = Conv<pads=[1,1,1,1]>(x, a) r = Relu(h) d = Conv<pads=[1,1,1,1],group=8>(r, b) p = GlobalAveragePool(d) "
        "t = Flatten(p) y = MatMul(t, f)"
    )
    weights = {"a": conv(8, 3, 3, 3), "b": conv(8, 1, 3, 3), "f": conv(8, 5)}
    found = judged(model_of("float[n,3,12,12] x", "float[n,5] y", nodes, weights), bits="w3a8")
    assert "depthwise" in {cause.kind for layer in found.worst for cause in layer.causes}


def test_a_gate_behind_global_pooling(model_of: ModelOf) -> None:
    nodes = (
        "h = Conv<pads=[1,1,1,1]>(x, a) r = Relu(h) p = GlobalAveragePool(r) e = Conv(p, s) g = Sigmoid(e) "
        "m = Mul(r, g) q = GlobalAveragePool(m) t = Flatten(q) y = MatMul(t, f)"
    )
    weights = {"a": conv(8, 3, 3, 3), "s": 4 * conv(8, 8, 1, 1), "f": conv(8, 5)}
    found = judged(model_of("float[n,3,12,12] x", "float[n,5] y", nodes, weights), wrong={"p": 20})
    worst = found.worst[0]
    assert (worst.layer.activations, worst.causes[0].kind) == (("p",), "pooled-gate")
    assert "--samples" in worst.remedies[0]


def test_sixteen_bits_are_named_where_the_target_has_them(plain: onnx.ModelProto) -> None:
    assert any("--bits w8a16" in text for layer in judged(plain, target="qnn").worst for text in layer.remedies)
    assert not any("--bits w8a16" in text for layer in judged(plain).worst for text in layer.remedies)


def test_a_tensor_that_float_reads_is_mended_at_its_writer(model_of: ModelOf) -> None:
    nodes = "h = Conv<pads=[1,1,1,1]>(x, a) y = Softmax<axis=1>(h)"
    found = judged(model_of("float[n,3,12,12] x", "float[n,8,12,12] y", nodes, {"a": conv(8, 3, 3, 3)}), wrong={"h": 9})
    worst = found.worst[0]
    assert worst.layer.operator == "Softmax"
    assert worst.remedies[0].endswith("--keep-float 'Conv_0'")
