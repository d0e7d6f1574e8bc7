"""Wrong scales, planted into files of this package, are found first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import calibrate, evaluate
from dfq_deploy.evaluation.qdq_pairs import activation_pairs, weight_pairs
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.evaluation.scale_checks import scale_checks
from dfq_deploy.graph.loading import load, load_quantized
from dfq_deploy.samples.samples import Samples
from tests.conftest import ModelOf


@pytest.fixture(scope="module")
def sound(digits_bn: Path, held_out: Samples, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The digits' network at 8 bits."""
    output = tmp_path_factory.mktemp("sound") / "out"
    calibrate(digits_bn, data=held_out.part(slice(32)), output=output)
    return onnx.load(output / "model.qdq.onnx")


def planted(model: onnx.ModelProto, node: onnx.NodeProto, factor: float, kind: str) -> onnx.ModelProto:
    """A copy in which one scale is wrong; ``requantized``: the integers follow; ``channel``: in one channel alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    scale = numpy_helper.to_array(stored[node.input[1]]).copy()
    if kind == "channel":
        scale[scale.size // 2] *= factor
    else:
        scale = np.asarray(scale * np.float32(factor), np.float32)
    stored[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
    if kind == "requantized":
        integers = numpy_helper.to_array(stored[node.input[0]])
        moved = np.clip(np.rint(integers / np.float32(factor)), -127, 127).astype(np.int8)
        stored[node.input[0]].CopyFrom(numpy_helper.from_array(moved, node.input[0]))
    return copy


def quantizers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "QuantizeLinear"]


def weights(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    int8 = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    return [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in int8]


def judged(digits_bn: Path, model: onnx.ModelProto, samples: Samples) -> tuple[ScaleCheck, ...]:
    return scale_checks(load(digits_bn), load_quantized(model), samples.part(slice(100, 108)))


def test_a_sound_file_has_no_fault(digits_bn: Path, sound: onnx.ModelProto, held_out: Samples) -> None:
    found = judged(digits_bn, sound, held_out)
    assert len(found) == len(quantizers(sound)) + len(weights(sound))
    assert not any(check.is_fault for check in found)
    assert all(check.matched for check in found)


@pytest.mark.parametrize("factor", [8.0, 1 / 8])
def test_every_activation(digits_bn: Path, sound: onnx.ModelProto, held_out: Samples, factor: float) -> None:
    for node in quantizers(sound):
        first = judged(digits_bn, planted(sound, node, factor, "scale"), held_out)[0]
        assert (first.kind, first.is_fault) == ("activation", True)
        assert node.input[0] in (first.tensor, f"{first.tensor}_unquantized")
        assert first.factor == pytest.approx(factor, rel=0.5)


@pytest.mark.parametrize("factor", [8.0, 1 / 8])
@pytest.mark.parametrize("kind", ["scale", "requantized", "channel"])
def test_every_weight(digits_bn: Path, sound: onnx.ModelProto, held_out: Samples, factor: float, kind: str) -> None:
    for node in weights(sound):
        first = judged(digits_bn, planted(sound, node, factor, kind), held_out)[0]
        assert (first.kind, first.is_fault, first.tensor) == ("weight", True, node.input[0])
        assert first.factor == pytest.approx(factor, rel=0.5)


def test_evaluate_names_it_in_its_first_warning(
    digits_bn: Path, sound: onnx.ModelProto, held_out: Samples, tmp_path: Path
) -> None:
    node = weights(sound)[3]
    onnx.save(planted(sound, node, 8, "scale"), tmp_path / "wrong.onnx")
    found = evaluate(digits_bn, tmp_path / "wrong.onnx", held_out.part(slice(100, 164)))
    assert found.warnings[0].startswith(f"the scale of weight '{node.input[0]}' of Conv ")
    assert "is about 8 times too large" in found.warnings[0]
    assert found.to_json()["scales"][0]["fault"] is True
    onnx.save(sound, tmp_path / "sound.onnx")
    good = evaluate(digits_bn, tmp_path / "sound.onnx", held_out.part(slice(100, 164)))
    assert not any("the scale of" in warning for warning in good.warnings)
    assert good.scales


def test_a_file_of_four_bits(digits_bn: Path, held_out: Samples, tmp_path: Path) -> None:
    calibrate(digits_bn, data=held_out.part(slice(32)), bits="w4a8", refine=["bias"], output=tmp_path / "out")
    model = load_quantized(tmp_path / "out/model.qdq.onnx")
    assert {pair.encoding.qtype.bits for pair in weight_pairs(model)} == {4}
    found = scale_checks(load(digits_bn), model, held_out.part(slice(100, 108)))
    assert not any(check.is_fault for check in found)


@pytest.fixture(scope="module")
def equalized(digits_bn: Path, held_out: Samples, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The digits' network at 8 bits, with channels of which some are scaled by more than 10."""
    output = tmp_path_factory.mktemp("equalized") / "out"
    calibrate(digits_bn, data=held_out.part(slice(32)), refine=["equalize", "bias"], floor="none", output=output)
    return onnx.load(output / "model.qdq.onnx")


def test_an_equalized_file_has_no_fault(digits_bn: Path, equalized: onnx.ModelProto, held_out: Samples) -> None:
    found = judged(digits_bn, equalized, held_out)
    assert not any(check.is_fault for check in found)
    assert all(check.matched for check in found)


@pytest.mark.parametrize("kind", ["scale", "requantized"])
def test_weights_of_an_equalized_file(
    digits_bn: Path, equalized: onnx.ModelProto, held_out: Samples, kind: str
) -> None:
    for node in weights(equalized)[::2]:
        first = judged(digits_bn, planted(equalized, node, 8, kind), held_out)[0]
        assert (first.kind, first.is_fault, first.tensor) == ("weight", True, node.input[0])


def test_activations_of_an_equalized_file(digits_bn: Path, equalized: onnx.ModelProto, held_out: Samples) -> None:
    for node in quantizers(equalized)[::3]:
        first = judged(digits_bn, planted(equalized, node, 8, "scale"), held_out)[0]
        assert (first.kind, first.is_fault) == ("activation", True)
        assert node.input[0] in (first.tensor, f"{first.tensor}_unquantized")


def test_factors_that_an_operator_in_float_puts_before_a_layer_are_no_fault(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    uneven = np.exp(rng.normal(0, 1, (12, 1, 1, 1)))
    arrays = {
        "w": rng.normal(0, 0.5, (12, 3, 1, 1)) * uneven,
        "b": rng.normal(0, 0.5, 12) * uneven.ravel(),
        "v": rng.normal(0, 0.5, (8, 12, 1, 1)),
        "c": rng.normal(0, 0.5, 8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="first"),
        helper.make_node("HardSwish", ["a"], ["s"], name="swish"),
        helper.make_node("Conv", ["s", "v", "c"], ["y"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["n", size, 8, 8]) for name, size in (("x", 3), ("y", 8))]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    path = tmp_path / "swish.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    samples = Samples(rng.normal(0, 1, (24, 3, 8, 8)).astype(np.float32))
    calibrate(path, data=samples, refine=["channels", "bias"], floor="none", output=tmp_path / "out")
    quantized = onnx.load(tmp_path / "out/model.qdq.onnx")
    assert any(node.op_type == "Mul" for node in quantized.graph.node)
    assert not any(check.is_fault for check in scale_checks(load(path), load_quantized(quantized), samples))
    (second,) = [node for node in weights(quantized) if node.input[0].startswith("v")]
    first = scale_checks(load(path), load_quantized(planted(quantized, second, 8, "scale")), samples)[0]
    assert (first.kind, first.is_fault, first.tensor) == ("weight", True, second.input[0])


def test_scales_of_q_and_dq_that_differ() -> None:
    arrays = {"q": np.float32(0.1), "dq": np.float32(0.8), "zero": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "q", "zero"], ["i"]),
        helper.make_node("DequantizeLinear", ["i", "dq", "zero"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    wrong = helper.make_graph(nodes, "wrong", ends[:1], ends[1:], initializers)
    right = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "right", ends[:1], ends[1:])
    models = [
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8) for graph in (wrong, right)
    ]
    quantized = load_quantized(models[0])
    (pair,) = activation_pairs(quantized)
    assert pair.tensor == "x"
    assert (float(pair.written.scale), float(pair.read.scale)) == pytest.approx((0.1, 0.8))
    images = np.random.default_rng(0).normal(0, 3, (8, 4)).astype(np.float32)
    (check,) = scale_checks(load(models[1]), quantized, Samples(np.abs(images)))
    assert check.is_fault
    assert check.factor == pytest.approx(8)


def test_a_file_of_the_folded_export_is_sound_beside_the_one_with_batchnormalization(
    model_of: ModelOf, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "u": rng.normal(0, 0.01, (6, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 0.3, (4, 6, 1, 1)).astype(np.float32),
    }
    gain, none = rng.uniform(1 / 60, 1 / 15, 6).astype(np.float32), np.zeros(6, np.float32)
    statistics = {"gain": gain, "none": none, "one": np.ones(6, np.float32)}
    nodes = "s = Conv(x, u) c = Conv(x, w) b = BatchNormalization(c, gain, none, none, one) a = Add(b, s) "
    nodes += "r = Relu(a) y = Conv(r, v)"
    float_file = model_of("float[n,3,8,8] x", "float[n,4,6,6] y", nodes, {**weights, **statistics})
    folded = {**weights, "w": weights["w"] * gain.reshape(6, 1, 1, 1)}
    export = model_of(
        "float[n,3,8,8] x",
        "float[n,4,6,6] y",
        "s = Conv(x, u) c = Conv(x, w) a = Add(c, s) r = Relu(a) y = Conv(r, v)",
        folded,
    )
    samples = Samples(rng.normal(0, 1, (16, 3, 8, 8)).astype(np.float32))
    calibrate(export, data=samples, target="openvino", floor="none", output=tmp_path / "out")
    model = onnx.load(tmp_path / "out/model.qdq.onnx")
    assert [
        str(check) for check in scale_checks(load(float_file), load_quantized(model), samples) if check.is_fault
    ] == []


@pytest.mark.parametrize("damage", [np.zeros_like, np.negative])
def test_other_values_are_not_called_a_wrong_scale(
    digits_bn: Path, sound: onnx.ModelProto, held_out: Samples, damage: Callable[[Any], Any]
) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(sound)
    name = weights(sound)[3].input[0]
    stored = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    stored.CopyFrom(numpy_helper.from_array(damage(numpy_helper.to_array(stored)), name))
    first = judged(digits_bn, copy, held_out)[0]
    assert (first.tensor, first.is_fault) == (name, True)
    assert "has other values than float's, beside a scale of the right size" in str(first)


@pytest.mark.parametrize(
    ("check", "mild"),
    [
        (ScaleCheck("relu", "activation", "", 8, 25.0, 27.0, 0.6), True),
        (ScaleCheck("relu", "activation", "", 8, 25.0, 27.0, 0.9), True),  # clips by less
        (ScaleCheck("relu", "activation", "", 8, 25.0, 19.0, 0.9), False),
        (ScaleCheck("relu", "activation", "", 8, 25.0, 27.0, 0.9, cause="zero point", detail="is 3"), False),
        (ScaleCheck("conv.weight", "weight", "Conv 'conv'", 8, 25.0, 27.0, 0.9), False),
    ],
)
def test_ranges_that_clip_a_little_are_mild(check: ScaleCheck, mild: bool) -> None:
    assert check.is_mild is mild


def test_a_range_that_other_inputs_go_beyond_is_said_to_clip() -> None:
    """Whether its zero point is wrong, or the calibration had other inputs, its values do not tell."""
    assert str(ScaleCheck("scores", "activation", "", 8, 25.7, 19.6, 1.1)) == (
        "activation 'scores' is clipped beside a scale of the right size (a zero point that does not fit, or values "
        "beyond those of the calibration): 19.6 dB signal to noise, where 8 bits give 45.3"
    )
    weight = ScaleCheck("w", "weight", "Conv 'c', channel 3,", 8, 31.0, 41.0, 1.1)
    assert str(weight) == (
        "weight 'w' of Conv 'c', channel 3, has other values than float's, beside a scale of the right size: 31 dB "
        "more noise than 8 bits give there, and 41.0 dB signal to noise in the whole weight"
    )
