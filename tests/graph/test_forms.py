"""The whole way, from model to checked INT8 model, for the forms that models come in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.pipeline.results import Calibration
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]
TinyModel = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


CNN = {"w": normal(8, 3, 3, 3), "b": normal(8, seed=1), "g": normal(8, 5, seed=2)}
CNN_NODES = "c = Conv <pads = [1,1,1,1]> (i, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p)"


def ran(model: onnx.ModelProto, tmp_path: Path, **options: Any) -> tuple[Calibration, onnx.ModelProto]:
    """Calibrate with eight procedural samples; the result, and its file once ONNX Runtime has loaded it."""
    found = calibrate(model, synth="procedural", count=8, output=tmp_path / "out", **options)
    assert found.model_path is not None
    ort.InferenceSession(found.model_path, providers=["CPUExecutionProvider"])
    return found, onnx.load(found.model_path)


def snr(found: Calibration) -> list[float]:
    """Of each output, in dB."""
    return [np.inf if o["snr_db"] is None else o["snr_db"] for o in found.report["comparison"]["outputs"]]


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_two_float_inputs_of_different_rank_and_two_outputs(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(
        "float[n,3,8,8] i, float[n,4] side",
        "float[n,5] y, float[n,4] z",
        f"{CNN_NODES} h = MatMul(side, s) a = Add(f, h) y = MatMul(a, g) z = MatMul(a, t)",
        CNN | {"s": normal(4, 8, seed=3), "t": normal(8, 4, seed=4)},
    )
    found, quantized = ran(model, tmp_path)
    assert found.samples.extra["side"].shape == (8, 4)
    assert "input 'side' is drawn from a normal distribution" in " ".join(found.report["warnings"])
    assert min(snr(found)) > 20
    assert len([node for node in quantized.graph.node if node.op_type == "DequantizeLinear"]) > 6
    again = Samples.load(tmp_path / "out" / "samples.npz")
    np.testing.assert_array_equal(again.extra["side"], found.samples.extra["side"])
    assert min(snr(calibrate(model, data=again))) > 20


def test_token_ids_are_drawn_from_the_table_and_masks_cut_them_at_a_length(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(
        "int64[n,t] ids, int64[n,t] attention_mask",
        "float[n,t,5] y",
        "e = Gather(table, ids) m = Cast <to = 1> (attention_mask) u = Unsqueeze(m, last) k = Mul(e, u) "
        "h = MatMul(k, s) r = Relu(h) y = MatMul(r, g)",
        {"table": normal(30, 4), "s": normal(4, 8), "g": normal(8, 5), "last": np.array([2])},
    )
    chosen = calibrate(model, synth="procedural", count=8)
    assert (chosen.samples.images.shape, chosen.samples.extra["attention_mask"].shape) == ((8, 64), (8, 64))
    found, _ = ran(model, tmp_path, input_shapes={"ids": (1, 16)})
    ids = found.samples.images
    assert (ids.shape, ids.min() >= 0, ids.max() <= 29, len(np.unique(ids)) > 15) == ((8, 16), True, True, True)
    assert found.samples.extra["attention_mask"].dtype == np.int64
    mask = found.samples.extra["attention_mask"]
    lengths = mask.sum(axis=1)
    np.testing.assert_array_equal(mask, np.arange(16) < lengths[:, None])
    assert len(set(lengths.tolist())) > 1
    warnings = " ".join(found.report["warnings"])
    assert "input 'ids' is drawn from 0 to 29" in warnings
    assert "(the rows of 'table')" in warnings
    assert min(snr(found)) > 20
    few = synthesize(model, synth="procedural", count=8, input_shapes={"ids": (1, 16)}, input_ranges={"ids": (3, 4)})
    assert set(np.unique(few.images)) == {3, 4}


def test_open_sizes_are_fixed_by_the_caller(tiny: TinyModel, tmp_path: Path) -> None:
    found, quantized = ran(tiny(size="side"), tmp_path, input_shapes={"image": (1, 3, 12, 12)})
    assert found.samples.images.shape == (8, 3, 12, 12)
    dims = quantized.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "side", "side"]
    assert found.report["warnings"] == []
    assert found.report["notes"][0].startswith("input 'image' is measured at (batch, 3, 12, 12), as --input-shape says")
    _, fixed = ran(tiny(size="side"), tmp_path / "fixed", input_shapes={"image": (1, 3, 12, 12)}, fix_shapes=True)
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 12, 12]
    refusals: list[tuple[dict[str, tuple[int, ...]], str]] = [
        ({"picture": (1, 3, 8, 8)}, "no input 'picture' to give a shape to; its inputs: image"),
        ({"image": (1, 4, 8, 8)}, r"has shape \(batch, 3, side, side\), which \(1, 4, 8, 8\) contradicts"),
        ({"image": (3, 8, 8)}, r"\(3, 8, 8\) has another number of axes"),
    ]
    for shapes, words in refusals:
        with pytest.raises(ModelError, match=words):
            load(tiny(size="side"), input_shapes=shapes)


@pytest.mark.parametrize("shape", ["n,16", "n,4,50", "n,3,4,6,6", "n"])
def test_inputs_of_any_rank(model_of: ModelOf, tmp_path: Path, shape: str) -> None:
    nodes = {
        "n,16": "y = Gemm(x, w)",
        "n,4,50": "c = Conv(x, w) y = Relu(c)",
        "n,3,4,6,6": "c = Conv(x, w) y = Relu(c)",
        "n": "u = Unsqueeze(x, w1) y = MatMul(u, w)",
    }[shape]
    weights: Mapping[str, NDArray[Any]] = {
        "n,16": {"w": normal(16, 5)},
        "n,4,50": {"w": normal(6, 4, 3)},
        "n,3,4,6,6": {"w": normal(6, 3, 3, 3, 3)},
        "n": {"w": normal(1, 5), "w1": np.array([1])},
    }[shape]
    found, quantized = ran(model_of(f"float[{shape}] x", "float y", nodes, weights), tmp_path)
    assert min(snr(found)) > 20
    assert "QuantizeLinear" in operators(quantized)


def test_pictures_with_channels_last(model_of: ModelOf, tmp_path: Path) -> None:
    last = model_of(
        "float[n,8,8,3] x",
        "float[n,5] y",
        f"i = Transpose <perm = [0,3,1,2]> (x) {CNN_NODES} y = MatMul(f, g)",
        CNN,
    )
    first = model_of("float[n,3,8,8] i", "float[n,5] y", f"{CNN_NODES} y = MatMul(f, g)", CNN)
    found, _ = ran(last, tmp_path)
    plain = synthesize(first, synth="procedural", count=8)
    np.testing.assert_array_equal(found.samples.images, plain.images.transpose(0, 2, 3, 1))
    assert (tmp_path / "out" / "samples.png").is_file()
    assert min(snr(found)) > 20


def test_statistics_are_matched_with_channels_last_and_a_second_input(digits_bn: Path, tmp_path: Path) -> None:
    model = onnx.load(digits_bn)
    for node in model.graph.node:
        node.input[:] = ["first" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Mul", ["moved", "scale"], ["first"]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 16, 16, 1]))
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["batch", 1, 1, 1]))
    given: dict[str, Any] = {"count": 8, "seed": 3, "device": "cpu"}
    turned = synthesize(model, **given)
    plain = synthesize(digits_bn, **given)
    assert (turned.method, turned.images.shape) == ("deepinversion", (8, 16, 16, 1))
    assert turned.figures["statistics_distance"] == pytest.approx(plain.figures["statistics_distance"], rel=0.1)


@pytest.mark.parametrize(("text", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_other_floats_are_computed_in_float32(model_of: ModelOf, tmp_path: Path, text: str, dtype: type) -> None:
    weights: dict[str, NDArray[Any]] = {name: array.astype(dtype) for name, array in CNN.items()}
    nodes = f"{CNN_NODES} k = Cast <to = 1> (f) j = Cast <to = {10 if text == 'float16' else 11}> (k) y = MatMul(j, g)"
    model = model_of(f"{text}[n,3,8,8] i", f"{text}[n,5] y", nodes, weights)
    found, quantized = ran(model, tmp_path)
    images: NDArray[Any] = found.samples.images.astype(dtype)
    session = ort.InferenceSession(to_bytes(load(model)), providers=["CPUExecutionProvider"])
    (computed,) = session.run(None, {"i": images})
    expected = np.asarray(next(iter(ReferenceEvaluator(model).run(None, {"i": images}))))
    assert computed.dtype == expected.dtype == dtype
    np.testing.assert_allclose(computed, expected, atol=0.02)
    assert quantized.graph.output[0].type.tensor_type.elem_type == helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert found.report["notes"][0].startswith(f"the model is {text}: computed and quantized as float32")
    assert min(snr(found)) > 20


def test_a_fixed_batch_is_calibrated_and_inverted(digits_bn: Path, tmp_path: Path) -> None:
    model = onnx.load(digits_bn)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    channels = next(t.dims[1] for t in model.graph.initializer if t.name == model.graph.node[-1].input[1])
    flatten.op_type = "Reshape"
    del flatten.attribute[:]
    flatten.input.append("fixed")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, channels]), "fixed"))
    for value in model.graph.value_info:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    given: dict[str, Any] = {"count": 8, "seed": 3, "device": "cpu"}
    made = synthesize(model, **given)
    assert made.method == "deepinversion"
    np.testing.assert_array_equal(made.images, synthesize(digits_bn, **given).images)
    assert min(snr(calibrate(model, data=made))) > 15
