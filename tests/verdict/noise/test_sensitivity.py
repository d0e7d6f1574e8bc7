"""Each layer's own noise, against products worked out in NumPy."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.noise import engine_choice
from dfq_deploy.verdict.noise.engines import RuntimeEngine, TwinEngine
from dfq_deploy.verdict.noise.layers import quantized_layers
from dfq_deploy.verdict.noise.sensitivity import layer_noise, rounded_tensors, sample_count
from dfq_deploy.verdict.noise.switches import SwitchEngine

ModelOf = Callable[..., onnx.ModelProto]

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=True)
RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(0, 1, (6, 6)).astype(np.float32) for _ in range(2))
IMAGES = RNG.normal(0, 1, (5, 6)).astype(np.float32)
ENCODINGS = {
    "x": Encoding.of_range(Range(-3, 3), U8),
    "h": Encoding.of_range(Range(-4, 9), U8),
    "a": Encoding.of_range(Range(-5, 5), S8),
    "b": Encoding.of_range(Range(-30, 30), S8),
}


@pytest.fixture
def two_products(model_of: ModelOf) -> ir.Model:
    """y = (x a) b; the second weight has a scale ten times too large."""
    return load(
        model_of("float[n,6] x", "float[n,6] y", "h = MatMul(x, a) y = MatMul(h, b)", {"a": FIRST, "b": SECOND})
    )


def snr(exact: np.ndarray, given: np.ndarray) -> float:
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - given).sum()))


def test_own_noise_by_hand(two_products: ir.Model) -> None:
    found = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)
    x, h, a, b = ENCODINGS["x"], ENCODINGS["h"], ENCODINGS["a"], ENCODINGS["b"]
    exact = IMAGES @ FIRST @ SECOND
    first = x.fake_quantize(IMAGES) @ a.fake_quantize(FIRST) @ SECOND
    second = h.fake_quantize(IMAGES @ FIRST) @ b.fake_quantize(SECOND)
    both = h.fake_quantize(x.fake_quantize(IMAGES) @ a.fake_quantize(FIRST)) @ b.fake_quantize(SECOND)
    noise = {layer.weight: layer for layer in found.layers}
    assert found.layers[0].weight == "b"
    assert noise["a"].own_snr == pytest.approx(snr(exact, first), abs=0.01)
    assert noise["b"].own_snr == pytest.approx(snr(exact, second), abs=0.01)
    assert found.total_snr == pytest.approx(snr(exact, both), abs=0.01)
    powers = [np.square(exact - given).sum() for given in (first, second)]
    assert noise["b"].share == pytest.approx(powers[1] / sum(powers), abs=1e-3)
    hidden = snr(IMAGES @ FIRST, h.fake_quantize(x.fake_quantize(IMAGES) @ a.fake_quantize(FIRST)))
    assert noise["a"].accumulated_snr == pytest.approx(hidden, abs=0.01)
    assert (noise["a"].operator, noise["a"].activations, noise["a"].measured) == ("MatMul", ("x",), True)


def test_random_outputs_are_no_noise(model_of: ModelOf) -> None:
    """A sample that is drawn about an output had 3 dB for every layer."""
    nodes = "h = MatMul(x, a) y = MatMul(h, b) e = RandomNormalLike(y) z = Add(y, e)"
    model = load(model_of("float[n,6] x", "float[n,6] y, float[n,6] z", nodes, {"a": FIRST, "b": SECOND}))
    found = layer_noise(model, model, model, ENCODINGS, Samples(IMAGES), budget_s=None)
    exact = IMAGES @ FIRST @ SECOND
    first = ENCODINGS["x"].fake_quantize(IMAGES) @ ENCODINGS["a"].fake_quantize(FIRST) @ SECOND
    (own,) = [layer.own_snr for layer in found.layers if layer.weight == "a"]
    assert own == pytest.approx(snr(exact, first), abs=0.01)


def test_an_output_that_layers_read_is_rounded_once_more_for_each(model_of: ModelOf) -> None:
    """ONNX Runtime's engine looked for the encoding of the renamed tensor."""
    nodes = "h = MatMul(x, a) y = Relu(h) z = MatMul(y, b)"
    model = load(model_of("float[n,6] x", "float[n,6] y, float[n,6] z", nodes, {"a": FIRST, "b": SECOND}))
    encodings = {**ENCODINGS, "y": ENCODINGS["h"]}
    rounded = rounded_tensors(model, encodings)
    layers = quantized_layers(model, encodings)
    outputs = RuntimeEngine(model, rounded, Samples(IMAGES)).together(layers)
    written = encodings["y"].fake_quantize(np.maximum(np.asarray(outputs[0]), 0))
    np.testing.assert_allclose(outputs[0], written, atol=1e-5)
    np.testing.assert_allclose(outputs[1], written @ encodings["b"].fake_quantize(SECOND), rtol=1e-4, atol=1e-4)


def test_a_corrected_bias_takes_the_mean_shift_out(two_products: ir.Model) -> None:
    found = layer_noise(
        two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), corrected=True, budget_s=None
    )
    exact = IMAGES @ FIRST @ SECOND
    given = ENCODINGS["h"].fake_quantize(IMAGES @ FIRST) @ ENCODINGS["b"].fake_quantize(SECOND)
    # The mean of five samples takes a fifth of their scatter with it, which other samples keep.
    given = exact + ((given - exact) - (given - exact).mean(axis=0)) * np.sqrt(5 / 4)
    (own,) = [layer.own_snr for layer in found.layers if layer.weight == "b"]
    assert own == pytest.approx(snr(exact, given), abs=0.01)


def test_other_inputs_are_those_of_the_first_sample(model_of: ModelOf) -> None:
    """The twin has one input; with rows of the other that differ it would compute something else."""
    text = "s = Mul(x, z) h = MatMul(s, a) y = MatMul(h, b)"
    model = load(model_of("float[n,6] x, float[n,6] z", "float[n,6] y", text, {"a": FIRST, "b": SECOND}))
    others = RNG.normal(0, 1, (5, 6)).astype(np.float32)
    encodings = {name: ENCODINGS[name] for name in ("h", "b")}
    found = layer_noise(model, model, model, encodings, Samples(IMAGES, extra={"z": others}), budget_s=None)
    hidden = (IMAGES * others[:1]) @ FIRST
    rounded = ENCODINGS["h"].fake_quantize(hidden) @ ENCODINGS["b"].fake_quantize(SECOND)
    assert found.engine == "twin"
    assert found.layers[0].own_snr == pytest.approx(snr(hidden @ SECOND, rounded), abs=0.01)


def test_weights_that_were_changed_are_measured_against_the_float_file(two_products: ir.Model) -> None:
    changed = two_products.clone()
    grid = ENCODINGS["b"].fake_quantize(SECOND)
    changed.graph.initializers["b"].const_value = ir.tensor(grid, name="b")
    found = layer_noise(two_products, two_products, changed, ENCODINGS, Samples(IMAGES), budget_s=None)
    expected = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)
    assert [layer.own_snr for layer in found.layers] == pytest.approx([layer.own_snr for layer in expected.layers])


def test_both_engines_agree_on_a_residual_network(digits_bn: Path, held_out: Samples) -> None:
    source = load(digits_bn)
    part = held_out.part(slice(8))
    prepared = prepare(source, find_target("cpu"))
    quantized = encode(prepared, find_plugin("calibrators", "minmax")(), part)
    model = prepared.model
    layers = quantized_layers(model, quantized.encodings)
    rounded = rounded_tensors(model, quantized.encodings)
    twin, runtime = TwinEngine(model, rounded, part), RuntimeEngine(model, rounded, part)
    switched = SwitchEngine(model, rounded, part, layers)
    engines = (twin.alone(layers), runtime.alone(layers), switched.alone(layers))
    for (layer, first), (_, second), (_, third) in zip(*engines, strict=True):
        np.testing.assert_allclose(first[0], second[0], atol=0.02, err_msg=layer.node)
        np.testing.assert_allclose(second[0], third[0], atol=0.02, err_msg=layer.node)
    np.testing.assert_allclose(switched.together(layers)[0], runtime.together(layers)[0], atol=0.02)
    np.testing.assert_allclose(switched.together(())[0], runtime.together(())[0], atol=1e-5)
    assert {"Conv", "Gemm", "Add"} <= {layer.operator for layer in layers}
    for start in (len(layers) // 2, 1, len(layers) - 2, 3, 0):  # groups may begin anywhere, in any order
        group = layers[start : start + 2]
        np.testing.assert_allclose(twin.together(group)[0], runtime.together(group)[0], atol=0.02)


def test_corrected_switches_take_the_mean_shift_out_as_the_twin_does(digits_bn: Path, held_out: Samples) -> None:
    source, part = load(digits_bn), held_out.part(slice(8))
    prepared = prepare(source, find_target("cpu"))
    encodings = encode(prepared, find_plugin("calibrators", "minmax")(), part).encodings
    layers = quantized_layers(prepared.model, encodings)
    rounded = rounded_tensors(prepared.model, encodings)
    twin = TwinEngine(prepared.model, rounded, part, corrected=True)
    switched = SwitchEngine(prepared.model, rounded, part, layers, corrected=True)
    plain = dict(SwitchEngine(prepared.model, rounded, part, layers).alone(layers))
    moved = False
    for (layer, first), (_, second) in zip(twin.alone(layers), switched.alone(layers), strict=True):
        np.testing.assert_allclose(first[0], second[0], atol=0.02, err_msg=layer.node)
        moved = moved or np.abs(np.asarray(plain[layer][0]) - second[0]).max() > 0.02
    assert moved


def test_a_slow_twin_gives_way_to_switches(two_products: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)
    monkeypatch.setattr(engine_choice, "QUICK", 0.0)
    monkeypatch.setattr(TwinEngine, "together", _slowly(TwinEngine.together))
    found = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)
    assert (wanted.engine, found.engine) == ("twin", "onnxruntime")
    assert [layer.own_snr for layer in found.layers] == pytest.approx(
        [layer.own_snr for layer in wanted.layers], abs=0.01
    )


def _slowly(run: Callable[..., object]) -> Callable[..., object]:
    def ran(*arguments: object) -> object:
        time.sleep(0.2)
        return run(*arguments)

    return ran


def test_shares_add_up_to_what_the_whole_file_loses(digits_bn: Path, held_out: Samples) -> None:
    source, part = load(digits_bn), held_out.part(slice(16))
    prepared = prepare(source, find_target("cpu"))
    encodings = encode(prepared, find_plugin("calibrators", "minmax")(), part).encodings
    found = layer_noise(source, prepared.model, prepared.model, encodings, part, budget_s=None)
    together = sum(10 ** (-layer.own_snr / 10) for layer in found.layers)
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert found.total_snr == pytest.approx(-10 * np.log10(together), abs=1.5)
    assert found.preparation_snr > 80
    assert found.to_json()["layers"][0]["own_snr_db"] == found.layers[0].own_snr


def test_a_short_budget_still_finds_the_worst_group(digits_bn: Path, held_out: Samples) -> None:
    source, part = load(digits_bn), held_out.part(slice(8))
    prepared = prepare(source, find_target("cpu"))
    encodings = dict(encode(prepared, find_plugin("calibrators", "minmax")(), part).encodings)
    worst = quantized_layers(prepared.model, encodings)[-1]
    wide = encodings[worst.weight]
    encodings[worst.weight] = Encoding(wide.scale * 40, wide.zero_point, wide.qtype, wide.axis)
    found = layer_noise(source, prepared.model, prepared.model, encodings, part, budget_s=0)
    whole = len(found.layers)
    group = [layer for layer in found.layers if layer.own_snr == pytest.approx(found.layers[0].own_snr)]
    assert worst.node in {layer.node for layer in group}
    assert len(group) < whole
    assert not any(layer.measured for layer in group)


def test_what_the_twin_cannot_run_goes_through_onnxruntime(
    two_products: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)

    def refuse(*_: object, **__: object) -> None:
        raise ModelError("unknown operator")

    monkeypatch.setattr(engine_choice, "TwinEngine", refuse)
    found = layer_noise(two_products, two_products, two_products, ENCODINGS, Samples(IMAGES), budget_s=None)
    assert (expected.engine, found.engine) == ("twin", "onnxruntime")
    assert [layer.node for layer in found.layers] == [layer.node for layer in expected.layers]
    assert [layer.own_snr for layer in found.layers] == pytest.approx(
        [layer.own_snr for layer in expected.layers], abs=0.05
    )


def test_outputs_of_changing_size_are_refused(model_of: ModelOf) -> None:
    model = load(
        model_of(
            "float[1,6] x", "int64[r,k] y", "h = MatMul(x, a) p = Relu(h) q = Sub(p, c) r = Relu(q) y = NonZero(r)",
            {"a": FIRST, "c": np.float32(0.02) * np.ones(6, np.float32)},
        )
    )  # fmt: skip
    coarse = {
        "x": Encoding.of_range(Range(-3, 3), QuantType(2, signed=False, symmetric=False)),
        "a": Encoding.of_range(Range(-1, 1), QuantType(2, signed=True, symmetric=True)),
    }
    with pytest.raises(ModelError, match="no output keeps its size"):
        layer_noise(model, model, model, coarse, Samples(IMAGES), budget_s=None)


def test_every_style_of_placement_is_measured(digits_folded: Path, held_out: Samples) -> None:
    source, part = load(digits_folded), held_out.part(slice(8))
    for target in ("tensorrt", "qnn"):
        prepared = prepare(source, find_target(target), Bits.parse("w8a8"))
        encodings = encode(prepared, find_plugin("calibrators", "minmax")(), part).encodings
        found = layer_noise(source, prepared.model, prepared.model, encodings, part)
        assert np.isfinite(found.total_snr)
        assert all(np.isfinite(layer.own_snr) for layer in found.layers)


def test_few_of_large_samples_are_used() -> None:
    assert sample_count(Samples(np.zeros((64, 3, 32, 32), np.float32))) == 32
    assert sample_count(Samples(np.zeros((8, 3, 224, 224), np.float32))) == 3
    assert sample_count(Samples(np.zeros((2, 3, 224, 224), np.float32))) == 2


def test_outputs_of_the_twin_are_in_the_order_of_the_file(model_of: ModelOf) -> None:
    weights = {"a": FIRST, "b": np.ones((6, 4), np.float32)}
    nodes = "h = MatMul(x, a) f = Relu(h) l = MatMul(f, b) y = Softmax(l)"
    model = load(model_of("float[n,6] x", "float[n,6] f, float[n,4] y", nodes, weights))
    rounded = rounded_tensors(model, {})
    feature, logits = TwinEngine(model, rounded, Samples(IMAGES)).together(())
    np.testing.assert_allclose(feature, np.maximum(IMAGES @ FIRST, 0), rtol=1e-5, atol=1e-5)
    assert np.shape(logits) == (5, 4)


def test_a_sequence_among_the_outputs_is_compared_too(model_of: ModelOf) -> None:
    proto = model_of(
        "float[n,6] x", "float[n,6] y", "y = MatMul(x, a) parts = SplitToSequence <axis = 1> (y)", {"a": FIRST}
    )
    proto.graph.output.append(onnx.helper.make_tensor_sequence_value_info("parts", onnx.TensorProto.FLOAT, None))
    model = load(proto)
    whole, parts = TwinEngine(model, rounded_tensors(model, {}), Samples(IMAGES)).together(())
    assert isinstance(parts, tuple)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole)
