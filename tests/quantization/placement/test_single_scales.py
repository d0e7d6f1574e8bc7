"""One scale for the weights of dense layers, where channels cost time and gain little."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from dfq_deploy.calibrators.minmax import MinMax
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Quantized, encode, prepare
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

WIDTH = 96
LAYERS = "m = MatMul(x, v) a = Add(m, b) r = Relu(a) n = MatMul(r, w) y = Add(n, b)"


def made(model_of: ModelOf, rows: int | str = "n", **weights: NDArray[np.float32]) -> onnx.ModelProto:
    """Two dense layers with Relu between them."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32) for name in "vw"}
    arrays["b"] = rng.normal(0, 0.1, WIDTH).astype(np.float32)
    return model_of(f"float[{rows},{WIDTH}] x", f"float[{rows},{WIDTH}] y", LAYERS, arrays | weights)


def encoded(model: onnx.ModelProto, target: str = "cpu", bits: Bits | None = None) -> Quantized:
    rows = np.random.default_rng(1).normal(size=(64, WIDTH)).astype(np.float32)
    return encode(prepare(load(model), find_target(target), bits), MinMax(), Samples(rows))


def axes(found: Quantized) -> dict[str, int | None]:
    """Channel axis of each weight, by name."""
    return {name: found.encodings[name].axis for name in "vw"}


@pytest.mark.parametrize("rows", ["n", 1, 4])
def test_few_rows_are_multiplied_by_weights_of_one_scale(model_of: ModelOf, rows: int | str) -> None:
    assert axes(encoded(made(model_of, rows))) == {"v": None, "w": None}


def test_many_rows_keep_a_scale_for_each_channel(model_of: ModelOf) -> None:
    assert axes(encoded(made(model_of, 64))) == {"v": 1, "w": 1}


@pytest.mark.parametrize("target", ["openvino", "tensorrt"])
def test_other_runtimes_keep_a_scale_for_each_channel(model_of: ModelOf, target: str) -> None:
    assert axes(encoded(made(model_of), target)) == {"v": 1, "w": 1}


def test_fewer_bits_keep_a_scale_for_each_channel(model_of: ModelOf) -> None:
    assert axes(encoded(made(model_of), bits=Bits(4, 8))) == {"v": 1, "w": 1}


@pytest.mark.parametrize("part", ["a channel half as large", "one large value"])
def test_channels_that_differ_keep_their_own_scales(model_of: ModelOf, part: str) -> None:
    weight = np.random.default_rng(2).normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32)
    if part == "one large value":
        weight[3, 5] = 1.5
    else:
        weight[:, 7] /= 2
    assert axes(encoded(made(model_of, v=weight))) == {"v": 1, "w": None}


def test_layers_beside_a_convolution_keep_a_scale_for_each_channel(model_of: ModelOf) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "k": rng.normal(0, 0.1, (4, 1, 3, 3)),
        "w": rng.normal(0, 0.1, (WIDTH, WIDTH)),
        "s": np.array([1, 1, 1, WIDTH]),
    }
    floats = {name: array.astype(np.int64 if name == "s" else np.float32) for name, array in arrays.items()}
    nodes = "i = Reshape(x, s) c = Conv <pads = [1, 1, 1, 1]> (i, k) f = Flatten(c) g = Gemm(f, v) y = Gemm(g, w)"
    floats["v"] = rng.normal(0, 0.1, (4 * WIDTH, WIDTH)).astype(np.float32)
    found = encoded(model_of(f"float[1,{WIDTH}] x", f"float[1,{WIDTH}] y", nodes, floats))
    assert axes(found) == {"v": 1, "w": 1}


def test_a_channel_of_zeros_does_not_count(model_of: ModelOf) -> None:
    weight = np.random.default_rng(2).normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32)
    weight[:, 7] = 0
    assert axes(encoded(made(model_of, v=weight)))["v"] is None


def test_a_weight_that_two_layers_read_keeps_its_channels(model_of: ModelOf) -> None:
    nodes = LAYERS.replace("MatMul(r, w)", "MatMul(r, v)")
    rng = np.random.default_rng(0)
    arrays = {"v": rng.normal(0, 0.1, (WIDTH, WIDTH)), "b": rng.normal(0, 0.1, WIDTH)}
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    found = encoded(model_of(f"float[n,{WIDTH}] x", f"float[n,{WIDTH}] y", nodes, floats))
    assert found.encodings["v"].axis == 1


def test_the_kernels_are_the_same_and_the_result_is_about_as_good(model_of: ModelOf) -> None:
    model, rows = made(model_of), np.random.default_rng(3).normal(size=(32, WIDTH)).astype(np.float32)
    target = replace(find_target("cpu"), slow_channels=frozenset())
    by_channel = encode(prepare(load(model), target), MinMax(), Samples(rows))
    wanted = np.asarray(Runner(model.SerializeToString()).run(Samples(rows))[0])
    decibels = []
    for found in (by_channel, encoded(model)):
        proto = ir.to_proto(quantized_model(found.prepared.model, found.encodings))
        assert [kernel.kernel for kernel in count_kernels(proto).kernels] == ["QGemm", "QGemm"]
        noise = np.asarray(Runner(proto.SerializeToString()).run(Samples(rows))[0]) - wanted
        decibels.append(10 * np.log10(np.square(wanted).sum() / np.square(noise).sum()))
    assert min(decibels) > 30
    assert decibels[0] - decibels[1] < 2.5


WIDE = 256
"""Weights of 256 x 256 are multiplied in integers whose activations are quantized at run time."""


@pytest.mark.parametrize(("rows", "axis"), [("n,s", None), ("1,4", None), ("1,64", 1)])
def test_few_rows_that_are_quantized_at_run_time_are_multiplied_by_a_weight_of_one_scale(
    model_of: ModelOf, rows: str, axis: int | None
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.1, (WIDE, WIDE)).astype(np.float32)
    uneven = weight * np.where(np.arange(WIDE) == 7, 0.05, 1).astype(np.float32)
    sizes = f"float[{rows},{WIDE}]"
    model = model_of(f"{sizes} x", f"{sizes} y", "m = MatMul(x, v) r = Relu(m) y = MatMul(r, w)",
                     {"v": weight, "w": uneven})  # fmt: skip
    images = rng.normal(size=(8, 4 if "s" in rows else int(rows[2:]), WIDE)).astype(np.float32)
    found = encode(prepare(load(model), find_target("cpu"), activations="dynamic"), MinMax(), Samples(images))
    assert axes(found) == {"v": axis, "w": 1}
    written = quantized_model(found.prepared.model, found.encodings)
    count = count_kernels(ir.to_proto(written))
    assert (count.integer, count.total) == (2, 2)
    wanted, given = (Runner(one).feed(Samples(images[:1]))[0] for one in (load(model), written))
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - given).sum()) > 30
