"""Sizes to measure at, and what stays open of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.graph.file_shapes import file_shape
from dfq_deploy.graph.inputs import input_values, sample_shape
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]
TinyModel = Callable[..., onnx.ModelProto]
Weights = Mapping[str, NDArray[Any]]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def shape_of(model: onnx.ModelProto, *, output: bool = False) -> list[int | str]:
    (value,) = model.graph.output if output else model.graph.input
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("shape", "nodes", "weights", "chosen"),
    [
        ("n,3,h,w", "y = Conv(x, w)", {"w": normal(2, 3, 3, 3)}, (3, 224, 224)),
        ("n,h,w,3", "y = MatMul(x, w)", {"w": normal(3, 2)}, (224, 224, 3)),
        ("n,16,h,w", "y = Conv(x, w)", {"w": normal(2, 16, 3, 3)}, (16, 32, 32)),
        ("n,1,32,w", "y = Conv(x, w)", {"w": normal(2, 1, 3, 3)}, (1, 32, 320)),
        ("n,3,160,w", "y = Conv(x, w)", {"w": normal(2, 3, 3, 3)}, (3, 160, 160)),
        ("n,t,20", "y = MatMul(x, w)", {"w": normal(20, 4)}, (64, 20)),
        ("n,1,t", "y = Conv(x, w)", {"w": normal(2, 1, 5)}, (1, 16000)),
        # Channels are those of the weight, and the size of what cannot be known is that of a picture in colour.
        ("n,c,h,w", "y = Conv(x, w)", {"w": normal(2, 4, 3, 3)}, (4, 224, 224)),
        ("n,h,w,c", "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv(t, w)", {"w": normal(2, 3, 3, 3)}, (224, 224, 3)),
        ("n,t,f", "y = MatMul(x, w)", {"w": normal(20, 4)}, (64, 20)),
        ("n,c,h,w", "y = AveragePool <kernel_shape = [2, 2]> (x)", {}, (3, 224, 224)),
        ("n,c,h,w", "f = Flatten(x) y = Reshape(f, w)", {"w": np.array([0, 65536])}, (1, 256, 256)),
        # What the graph runs at alone: 320 by 320 pixels, and 100 steps.
        ("n,3,h,w", "f = Flatten(x) y = Reshape(f, w)", {"w": np.array([-1, 307200])}, (3, 320, 320)),
        ("n,t,20", "y = Reshape(x, w)", {"w": np.array([0, 2000])}, (100, 20)),
        # Larger pictures come out than go in.
        ("n,3,h,w", "y = ConvTranspose <strides = [4, 4]> (x, w)", {"w": normal(3, 3, 4, 4)}, (3, 64, 64)),
    ],
)
def test_a_size_is_chosen_by_kind_and_by_what_runs(
    model_of: ModelOf, shape: str, nodes: str, weights: Weights, chosen: tuple[int, ...]
) -> None:
    model = load_sized(model_of(f"float[{shape}] x", "float y", nodes, weights))
    assert sample_shape(model) == chosen
    (value,) = input_values(model)
    assert [str(dim) for dim in file_shape(value) or ()] == shape.split(",")
    (note,) = load_notes(model)
    assert f"is measured at {chosen}, a size that was chosen" in note


def test_other_sizes_have_the_same_channels(model_of: ModelOf) -> None:
    weights = {"w": normal(4, 3, 3, 3)}
    (note,) = load_notes(load_sized(model_of("float[n,c,h,w] x", "float[n,4,a,b] y", "y = Conv(x, w)", weights)))
    assert "is measured at (3, 224, 224)" in note
    assert "its ranges at (3, 128, 128) and (3, 320, 320) too; the quantized model keeps it open" in note


def test_a_total_is_as_long_as_past_and_sequence(model_of: ModelOf) -> None:
    inputs = "int64[n,seq] input_ids, int64[n,total] attention_mask, float[n,2,past,8] past_key"
    nodes = "c = Cast <to = 1> (input_ids) d = Cast <to = 1> (attention_mask) s = ReduceSum(c) t = ReduceSum(d) "
    nodes += "p = ReduceSum(past_key) u = Add(s, t) y = Add(u, p)"
    model = load_sized(model_of(inputs, "float y", nodes, {}))
    shapes = {value.name: list(value.shape or ())[1:] for value in input_values(model)}
    assert shapes == {"input_ids": [64], "attention_mask": [128], "past_key": [2, 64, 8]}


def test_a_mask_beside_a_cache_is_as_long_as_past_and_sequence(model_of: ModelOf) -> None:
    """torch.export names none of the three for what it is."""
    nodes = """
        c = Concat <axis = 2> (past_key, tokens) m = Unsqueeze(attention_mask, middle) k = Cast <to = 1> (m)
        y = Mul(c, k)"""
    inputs = "float[s1,2,s2,4] tokens, float[s1,2,s3,4] past_key, int64[s4,s5] attention_mask"
    weights = {"middle": np.array([1, 3])}
    values = input_values(load_sized(model_of(inputs, "float y", nodes, weights)))
    assert {str(value.name): list(value.shape or ())[1:] for value in values} == {
        "tokens": [2, 224, 4], "past_key": [2, 64, 4], "attention_mask": [288],
    }  # fmt: skip


def test_a_mask_of_pictures_is_as_large_as_they_are(model_of: ModelOf) -> None:
    model = load_sized(model_of("float[n,3,?,?] image, float[n,1,?,?] mask", "float y", "y = Mul(image, mask)", {}))
    assert [list(value.shape or ())[1:] for value in input_values(model)] == [[3, 224, 224], [1, 224, 224]]


def test_a_dimension_that_is_a_sum_is_as_long_as_its_parts(model_of: ModelOf) -> None:
    model = model_of(
        "float[n,past,4] a, float[n,seq,4] x, float[n,total,1] m",
        "float[n,total,4] y",
        "c = Concat <axis = 1> (a, x) y = Mul(c, m)",
        {},
    )
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_param = "past + seq"
    shapes = {value.name: list(value.shape or ())[1:] for value in input_values(load_sized(model))}
    assert shapes == {"a": [64, 4], "x": [64, 4], "m": [128, 1]}


@pytest.mark.parametrize("target", ["cpu", "tensorrt", "xnnpack"])
def test_only_static_targets_close_what_is_open(tiny: TinyModel, tmp_path: Path, target: str) -> None:
    float_model = tiny(size="side")
    found = calibrate(float_model, synth="procedural", count=8, target=target, output=tmp_path / "out")
    assert found.model_path is not None
    quantized = onnx.load(found.model_path)
    if target == "xnnpack":
        assert shape_of(quantized) == [1, 3, 224, 224]
        return
    assert (shape_of(quantized), shape_of(quantized, output=True)) == (["batch", 3, "side", "side"], ["batch", 4])
    session = ort.InferenceSession(found.model_path, providers=["CPUExecutionProvider"])
    reference = ort.InferenceSession(float_model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = found.samples.images[:, :, ::6, ::6]
    (given,), (wanted,) = session.run(None, {"image": images}), reference.run(None, {"image": images})
    assert 10 * np.log10(np.square(wanted).mean() / np.square(wanted - given).mean()) > 20


def test_sizes_are_those_of_the_samples(tiny: TinyModel, tmp_path: Path) -> None:
    samples = Samples(normal(8, 3, 20, 20))
    samples.save(tmp_path / "samples.npz")
    for data in (samples, tmp_path / "samples.npz"):
        found = calibrate(tiny(size="side"), data=data, output=tmp_path / "out")
        assert found.samples.images.shape == (8, 3, 20, 20)
        assert "is measured at (3, 20, 20), as the samples are" in found.report["notes"][0]


def test_a_name_of_two_sizes_stands_for_two_dimensions(model_of: ModelOf) -> None:
    model = model_of("float[n,s] a, float[n,s] b", "float[n,t] y", "y = Concat <axis = 1> (a, b)", {})
    loaded = load(model, input_shapes={"a": (1, 5), "b": (1, 7)})
    assert [list(value.shape or ())[1] for value in input_values(loaded)] == [5, 7]
    assert load_notes(loaded)[-1].startswith("dimension 's' is stated with the sizes 5, 7: taken as different")


def test_a_model_that_is_closed_to_measure_with_is_open_when_it_is_loaded_again(tiny: TinyModel) -> None:
    first = load(tiny(size="side"), input_shapes={"image": (1, 3, 12, 12)})
    again = load_sized(first)
    (value,) = input_values(again)
    assert sample_shape(again) == (3, 12, 12)
    assert [str(dim) for dim in file_shape(value) or ()] == ["batch", "3", "side", "side"]


def test_the_output_keeps_what_inference_cannot_tell(model_of: ModelOf, tmp_path: Path) -> None:
    # How many are not zero depends on the values.
    nodes = (
        "c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) z = NonZero(x) q = Shape(z) "
        "k = Sub(q, q) e = Cast <to = 7> (k) s = Add(e, want) y = Reshape(f, s)"
    )
    model = model_of("float[n,3,h,w] x", "float[n,4,1] y", nodes, {"w": normal(4, 3, 3, 3), "want": np.array([-1, 4])})
    model.graph.output[0].type.tensor_type.shape.ClearField("dim")
    for name in ("n", "classes"):
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = name
    found = calibrate(model, synth="procedural", count=8, output=tmp_path / "out")
    assert found.model_path is not None
    assert shape_of(onnx.load(found.model_path), output=True) == ["n", "classes"]


FIXED = "c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) f = Reshape(r, of_one) y = Gemm(f, g)"


def declared_open(model_of: ModelOf) -> onnx.ModelProto:
    weights = {"w": normal(4, 3, 3, 3), "of_one": np.array([1, 256]), "g": normal(256, 5)}
    return model_of("float[n,3,8,8] x", "float[n,5] y", FIXED, weights)


def test_a_batch_that_is_open_in_name_alone_is_1(model_of: ModelOf, tmp_path: Path) -> None:
    model = declared_open(model_of)
    found = calibrate(model, synth="procedural", count=16, output=tmp_path / "out")
    assert found.model_path is not None
    quantized = onnx.load(found.model_path)
    assert (shape_of(quantized), shape_of(quantized, output=True)) == ([1, 3, 8, 8], [1, 5])
    assert found.report["notes"][0].startswith("the model declares an open batch, and ONNX Runtime runs it on one")
    assert not [said for said in found.report["warnings"] if "left out" in said]
    onnx.save(model, tmp_path / "float.onnx")
    assert evaluate(tmp_path / "float.onnx", found.model_path, count=4).comparison.outputs[0].snr > 20


def test_a_runner_finds_out_that_a_batch_is_open_in_name_alone(model_of: ModelOf) -> None:
    runner, images = Runner(ir.from_proto(declared_open(model_of))), normal(3, 3, 8, 8)
    (given,) = runner.run(Samples(images))
    assert (runner.batch, np.shape(given)) == (1, (3, 5))
    session = ort.InferenceSession(declared_open(model_of).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(given, np.concatenate([session.run(None, {"x": one[None]})[0] for one in images]))


def test_what_no_size_runs_is_refused_with_a_way_out(model_of: ModelOf) -> None:
    model = model_of("float[n,3,h,w] x", "float y", "y = Reshape(x, w)", {"w": np.array([0, 3, 11, 13])})
    with pytest.raises(ModelError, match=r"runs at none of the sizes .* state one, e\.g\. --input-shape x:1,3,224,224"):
        load_sized(model)
    assert sample_shape(load_sized(model, {"x": (1, 3, 11, 13)})) == (3, 11, 13)


def test_a_single_number_may_be_stated(model_of: ModelOf) -> None:
    model = model_of("float[n,3] x, float rate", "float[n,3] y", "y = Mul(x, rate)", {})
    assert input_values(load_sized(model, {"rate": ()}))[1].shape == ir.Shape([])


def two_rates(model_of: ModelOf, then: str) -> onnx.ModelProto:
    """Frames of 256 at 8 kHz; ``then`` is what reads those of 16 kHz."""
    nodes = f"""
        fast = Equal(sr, rate)
        y = If (fast) <then_branch = a () => (float[n, 4] s) {{ {then} }},
                       else_branch = b () => (float[n, 4] t) {{ t = MatMul(sound, w) }}>"""
    weights = {"rate": np.array(16000), "w": normal(256, 4), "v": normal(512, 4),
               "from": np.array([0]), "to": np.array([256]), "axis": np.array([1])}  # fmt: skip
    return model_of("float[n,t] sound, int64 sr", "float[n,4] y", nodes, weights)


def test_a_size_suits_both_branches_of_an_if(model_of: ModelOf) -> None:
    """At 16 kHz any of 256 and more would do, but ONNX Runtime infers the shapes of the other branch too."""
    model = load_sized(two_rates(model_of, "c = Slice(sound, from, to, axis) s = MatMul(c, w)"))
    assert sample_shape(model) == (256,)


def test_branches_that_no_size_suits_are_said(model_of: ModelOf) -> None:
    with pytest.raises(ModelError, match="a branch of an If takes other sizes"):
        load_sized(two_rates(model_of, "s = MatMul(sound, v)"))
