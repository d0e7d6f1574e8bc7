"""Equal ranges of channels: the function stays, and one scale serves channels that were far apart."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import calibrate
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.refinement.channel_ranges import MOST, equalize_channels
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(0, 1, (8, 3, 8, 8)).astype(np.float32)
UNEVEN = np.array([1, 0.5, 3, 0.4, 0.6, 10], np.float32)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def network(*middle: onnx.NodeProto, **constants: NDArray[np.float32]) -> ir.Model:
    """Convolution to ``a``, ``middle`` to ``b``, depthwise convolution; the channels of ``a`` are uneven."""
    held = {
        "w": normal(6, 3, 1, 1) * UNEVEN.reshape(-1, 1, 1, 1),
        "v": 0.3 * UNEVEN,
        "d": normal(6, 1, 3, 3),
        **constants,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "v"], ["a"], name="first"),
        *middle,
        helper.make_node("Conv", ["b", "d"], ["y"], name="depthwise", group=6, pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def relu() -> ir.Model:
    return network(helper.make_node("Relu", ["a"], ["b"], name="relu"))


def hard_swish() -> ir.Model:
    return network(helper.make_node("HardSwish", ["a"], ["b"], name="swish"))


def affine_swish() -> ir.Model:
    """With a learned scale and shift, as PP-LCNetV3 has them: no Mul of its own is needed before the depthwise."""
    return network(
        helper.make_node("HardSwish", ["a"], ["s"], name="swish"),
        helper.make_node("Mul", ["s", "m"], ["t"], name="scale"),
        helper.make_node("Add", ["t", "n"], ["b"], name="shift"),
        m=normal(1), n=normal(1),
    )  # fmt: skip


def run(model: ir.Model) -> NDArray[np.float32]:
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": image[None]})[0] for image in IMAGES])


def prepared(model: ir.Model, target: str = "cpu") -> Prepared:
    return prepare(model, find_target(target))


def spreads(model: ir.Model, name: str) -> float:
    """The largest channel of a tensor over the smallest."""
    shown = model.clone()
    value = next(value for node in shown.graph for value in node.outputs if value.name == name)
    shown.graph.outputs.append(value)
    session = ort.InferenceSession(to_bytes(shown), providers=["CPUExecutionProvider"])
    rows = np.concatenate([session.run([name], {"x": image[None]})[0] for image in IMAGES])
    peaks = np.abs(rows).max(axis=(0, 2, 3))
    return float(peaks.max() / peaks.min())


def check(make: Callable[[], ir.Model], tensor: str, operators: list[str]) -> None:
    source = make()
    ready = prepared(source)
    before = spreads(ready.model, tensor)
    ready = equalize_channels(ready, Samples(IMAGES))
    np.testing.assert_allclose(run(ready.model), run(source), rtol=1e-3, atol=1e-4)
    assert spreads(ready.model, tensor) < before / 4
    assert [node.op_type for node in ready.model.graph] == operators


def test_weights_take_the_factors_through_a_relu() -> None:
    check(relu, "b", ["Conv", "Relu", "Conv"])


def test_a_product_stands_before_what_is_not_homogeneous() -> None:
    check(hard_swish, "b", ["Conv", "Mul", "HardSwish", "Mul", "Conv"])


def test_a_scale_by_a_constant_takes_the_factors() -> None:
    check(affine_swish, "b", ["Conv", "Mul", "HardSwish", "Mul", "Add", "Conv"])


def test_factors_are_bounded_where_a_channel_is_empty() -> None:
    model = relu()
    weight = model.graph.initializers["w"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(
        weight.const_value.numpy() * np.where(np.arange(6) == 1, 1e-6, 1).reshape(-1, 1, 1, 1).astype(np.float32)
    )
    ready = prepared(model)
    old = np.array(ready.model.graph.initializers["w"].const_value.numpy())  # type: ignore[union-attr]
    equalize_channels(ready, Samples(IMAGES))
    new = np.array(ready.model.graph.initializers["w"].const_value.numpy())  # type: ignore[union-attr]
    assert (new / old).max() <= MOST * 1.001


def test_targets_without_float_between_kernels_are_left_alone() -> None:
    ready = prepared(hard_swish(), "tensorrt")
    assert equalize_channels(ready, Samples(IMAGES)) is ready


def test_calibrate_gains_by_it() -> None:
    def decibels(refine: list[str]) -> float:
        result = calibrate(hard_swish(), data=Samples(np.concatenate([IMAGES] * 2)), refine=refine, floor="none")
        return float(result.report["comparison"]["outputs"][0]["snr_db"])

    rng = RNG.bit_generator.state = np.random.default_rng(5).bit_generator.state  # whatever other tests have drawn
    plain = decibels([])
    RNG.bit_generator.state = rng
    assert decibels(["channels"]) > plain + 1
