"""The layers of an engine, from lines that TensorRT-RTX 1.7 has logged."""

from collections.abc import Callable

import onnx
import pytest

from dfq_deploy.runtime.tagged import tag
from dfq_deploy.runtime.tensorrt.engine_layers import EngineLayer, count_in_engine, read_layers

ModelOf = Callable[..., onnx.ModelProto]


def tensor(name: str, kind: str) -> str:
    layout = "Strides: [36,1,12,4], StrideOrder: [3,0,2,1]"
    return f"{{ Name: {name}, Dimensions: [1,4,3,3], {layout}, Datatype: {kind}, Format: (NHWC) Channel major format }}"


def line(name: str, kind: str, inputs: str, constants: str, metadata: str) -> str:
    sides = [", ".join(tensor(f"t{i}", part) for i, part in enumerate(side.split())) for side in (inputs, constants)]
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {sides[0]}], Constants: [ {sides[1]}], "
        f"Outputs: [ {tensor('o', 'Float')}], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: {metadata}"
    )


LOG = "\n".join(
    [
        "Layers:",
        line("__myl_MulMinMaxRounCast_myl0_0", "kgen", "Float", "Float", "[ONNX Layer: q][ONNX Layer: @2@]"),
        line("a_myl0_1", "correlation", "Int8", "Int8 Float", "[ONNX Layer: @0@][ONNX Layer: d]"),
        "Name: __mye6062_myl0_3, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
        "EventId: 1, Metadata: ",
        line("__myl_CastMulFc_myl0_4", "runtime_fusion", "Int8 Float", "", "[ONNX Layer: @1@]"),
        line("_gemm_mha_v2_myl0_8", "kgen", "Int8 Int8 Int8", "", "[ONNX Layer: @3@]"),
        line("b_myl0_9", "gemm", "Int8 Float", "Int8", "[ONNX Layer: @4@]"),
        "",
        "I/O Tensors: x",
    ]
)


def test_each_line_is_a_layer() -> None:
    layers = read_layers(["Trying to set to profile", LOG])
    assert [layer.kind for layer in layers] == ["kgen", "correlation", "signal", "runtime_fusion", "kgen", "gemm"]
    assert layers[1] == EngineLayer(
        "a_myl0_1", "correlation", "__myelin_CASK_STUB", ("Int8",), ("Int8", "Float"), ("Float",), ("@0@", "d")
    )
    assert [layer.multiplies for layer in layers] == [False, True, False, True, True, True]
    # A weight that is dequantized first; a float residual that is added behind the product.
    assert [layer.product for layer in layers if layer.multiplies] == ["integer", "float", "integer", "integer"]
    assert read_layers(["Engine generation completed"]) == ()


@pytest.mark.parametrize(
    ("named", "kinds"), [("@0@", "integer"), ("@1@", "float"), ("@2@", "float"), ("@3@", "integer")]
)
def test_a_layer_is_what_the_product_is_that_names_it(model_of: ModelOf, named: str, kinds: str) -> None:
    model = model_of("float[2,3,3] x", "float[2,3,3] y", "y = MatMul(x, x)", {})
    layers = read_layers([LOG.replace(named, "@7@").replace("@0@", "@8@").replace("@7@", "@0@")])
    counted = count_in_engine(tag(model), layers, "TensorRT-RTX 1.7 for SM89")
    assert [kernel.kind for kernel in counted.kernels] == [kinds]
    assert counted.listed
    assert str(counted).endswith(" of 1 layers in INT8, by the layers that TensorRT-RTX 1.7 for SM89 lists") or kinds


def test_products_of_floats_of_8_bits(model_of: ModelOf) -> None:
    model = model_of("float[2,3,3] x", "float[2,3,3] y", "y = MatMul(x, x)", {})
    layers = read_layers([LOG.replace("Int8", "FP8")])
    assert str(count_in_engine(tag(model), layers, "it")) == "1 of 1 layers in FP8, by the layers that it lists"
