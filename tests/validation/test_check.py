"""Damaged and hostile models are refused in one line, before anything computes with them."""

import re
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from dfq_deploy import load
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.passes.fold_constants import fold_constants
from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.check import check_message
from tests.conftest import TinyModel


def refused(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        check_message(model, "m.onnx")
    assert str(caught.value).startswith("m.onnx: ")
    assert "\n" not in str(caught.value)


def with_weight(tiny: TinyModel, tensor: TensorProto) -> onnx.ModelProto:
    model = tiny()
    model.graph.initializer.append(tensor)
    return model


def test_a_sound_model_passes(tiny: TinyModel) -> None:
    check_message(tiny(), "m.onnx")


@pytest.mark.parametrize(
    ("dims", "data_type", "data", "words"),
    [
        ([2, 2], TensorProto.FLOAT, bytes(12), "stores 12 bytes, but its shape [2, 2] of FLOAT needs 16"),
        ([3], TensorProto.INT4, bytes(3), "stores 3 bytes, but its shape [3] of INT4 needs 2"),
        ([2**40, 2**40], TensorProto.FLOAT, b"", "needs 4,835,703,278,458,516,698,824,704"),
        ([-1], TensorProto.FLOAT, b"", "the negative size -1"),
        ([1], 77, bytes(4), "the unknown element type 77"),
    ],
)
def test_raw_data_fits_the_shape(tiny: TinyModel, dims: list[int], data_type: int, data: bytes, words: str) -> None:
    refused(with_weight(tiny, TensorProto(name="w", dims=dims, data_type=data_type, raw_data=data)), words)


def test_typed_data_fits_the_shape(tiny: TinyModel) -> None:
    short = TensorProto(name="w", dims=[3], data_type=TensorProto.FLOAT, float_data=[1.0])
    refused(with_weight(tiny, short), "stores 1 elements, but its shape [3] of FLOAT needs 3")
    for kind in (TensorProto.INT4, TensorProto.COMPLEX64, TensorProto.BFLOAT16, TensorProto.BOOL):
        check_message(with_weight(tiny, helper.make_tensor("w", kind, [3], [1, 1, 1])), "m.onnx")


def test_tensors_fit_into_the_memory(tiny: TinyModel) -> None:
    with use_bounds(Bounds(memory=100)):
        refused(tiny(), "need more than 100 bytes")


@pytest.mark.parametrize("place", ["../w.bin", "/etc/passwd", "C:\\w.bin", "x" * 300, ""])
def test_external_data_stays_beside_the_model(tiny: TinyModel, place: str) -> None:
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place)
    refused(with_weight(tiny, tensor), "which is no file beside the model")


def test_the_length_of_external_data_is_a_number(tiny: TinyModel) -> None:
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key="length", value="-4")
    refused(with_weight(tiny, tensor), "the length of its external data is '-4'")


def test_names_hold_no_terminal_escapes(tiny: TinyModel) -> None:
    model = tiny()
    model.graph.node[0].name = "\x1b[2Jowned"
    refused(model, r"control characters ('\x1b[2Jowned')")


def test_names_are_utf8(tiny: TinyModel) -> None:
    model = tiny()
    model.graph.node[0].name = "NAME"
    damaged = onnx.load_model_from_string(model.SerializeToString().replace(b"NAME", b"N\xffME"))
    refused(damaged, "a name is not valid UTF-8")


def test_names_have_a_limit(tiny: TinyModel) -> None:
    model = tiny()
    model.graph.node[0].op_type = "x" * 5000
    refused(model, "the name of an operator has 5,000 bytes")


def test_nesting_has_a_limit() -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    for _ in range(5):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        del node.attribute[1]
        graph = helper.make_graph([node], "g", [], [])
    check_message(helper.make_model(graph), "m.onnx")
    with use_bounds(Bounds(depth=4)):
        refused(helper.make_model(graph), "nested too deeply")


def functions(levels: int, last: str = "Identity") -> onnx.ModelProto:
    """Each function calls the next one twice."""
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "l" : 1]> g (float[1] x) => (float[1] y) {y = l.f0(x)}'
    )
    for level in range(levels):
        inner = f"l.f{level + 1}" if level + 1 < levels else last
        model.functions.append(
            parser.parse_function(
                f'<domain: "l", opset_import: ["" : 18, "l" : 1]> '
                f"f{level} (a) => (c) {{ b = {inner}(a) c = {inner}(b) }}"
            )
        )
    return model


def test_functions_are_counted_before_they_are_expanded() -> None:
    check_message(functions(10), "m.onnx")
    refused(functions(60), "it expands to 1,152,921,504,606,846,976 nodes")
    refused(functions(3, last="l.f0"), "calls itself")


def test_functions_of_another_opset_are_named() -> None:
    model = functions(2)
    model.functions[1].opset_import[0].version = 17
    refused(model, "is written in opset 17 of domain '', the model in 18")
    model.functions[0].node[0].op_type = model.functions[0].node[1].op_type = "Identity"
    for node in model.functions[0].node:
        node.domain = ""
    check_message(model, "m.onnx")


def test_constants_that_double_are_not_all_folded() -> None:
    """40 Concats, each of two copies of the one before, would take 2^40 times the first one's memory."""
    nodes = [helper.make_node("Concat", [f"u{i}", f"u{i}"], [f"u{i + 1}"], axis=0) for i in range(40)]
    nodes += [helper.make_node("ReduceMax", ["u40"], ["m"], keepdims=0), helper.make_node("Add", ["x", "m"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.ones(1024, np.float32), "u0")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with (
        use_bounds(Bounds(memory=2**30)),
        pytest.raises(ModelError, match=r"tensor 'u19' of shape \[536870912\] takes"),
    ):
        load(model)
    read = ir.from_proto(model)
    assert len(fold_constants(read)) == 13  # 64 MB in all


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("MatMul", ["a", "b"], ["big"]), {"a": (8000, 1), "b": (1, 8000)}),
        (helper.make_node("Concat", ["a"] * 300, ["big"], axis=0), {"a": (50_000,)}),
        (
            helper.make_node("LSTM", ["a", "w", "r"], ["big"], hidden_size=8),
            {"a": (5000, 1, 4), "w": (1, 32, 4), "r": (1, 32, 8)},
        ),
    ],
)
def test_what_is_large_or_slow_is_not_computed_to_be_thrown_away(
    node: onnx.NodeProto, constants: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ir.from_proto(_with_constant(node, {name: np.ones(shape, np.float32) for name, shape in constants.items()}))
    monkeypatch.setattr(
        "dfq_deploy.graph.passes.fold_constants.ReferenceEvaluator", lambda _: pytest.fail("it is computed")
    )
    assert fold_constants(read) == ()


def _with_constant(node: onnx.NodeProto, constants: dict[str, np.ndarray[Any, Any]]) -> onnx.ModelProto:
    """A model that adds the largest number of what ``node`` computes from constants to its input."""
    nodes = [
        node,
        helper.make_node("ReduceMax", ["big"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_an_input_is_no_larger_than_the_memory(tiny: TinyModel) -> None:
    with (
        use_bounds(Bounds(memory=2**20)),
        pytest.raises(ModelError, match=r"input 'image' of shape .* takes 12,582,912"),
    ):
        load(tiny(size=1024))


def test_loading_ends_with_the_time() -> None:
    nodes = [helper.make_node("Neg", [f"t{index}"], [f"t{index + 1}"]) for index in range(200)]
    nodes += [helper.make_node("Identity", ["t200"], ["big"])]
    model = _with_constant(nodes[-1], {"t0": np.ones(1, np.float32)})
    model.graph.node.insert(0, nodes[0])
    for index, node in enumerate(nodes[1:-1], 1):
        model.graph.node.insert(index, node)
    with (
        use_bounds(Bounds(seconds=0.001)),
        pytest.raises(ModelError, match=r"the model: .* takes more than 0\.001 s; raise --max-sec"),
    ):
        load(model)


def test_a_negative_variance_is_refused(tiny: TinyModel) -> None:
    model = tiny()
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    variance = next(tensor for tensor in model.graph.initializer if tensor.name == norm.input[4])
    variance.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(variance), variance.name))
    with pytest.raises(ModelError, match="negative running variance"):
        load(model)


def test_an_input_leaves_room_for_what_layers_make_of_it(tiny: TinyModel) -> None:
    model = tiny()
    value = helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["n", 3, 8, 1_000_000])
    model.graph.input.append(value)
    with use_bounds(Bounds(memory=2**29)):
        refused(model, "input 'wide' of shape [1, 3, 8, 1000000] takes 96,000,000 bytes, and its layers several times")
    with use_bounds(Bounds(memory=2**30)):
        check_message(model, "m.onnx")


def test_maps_are_refused_with_the_way_out(tiny: TinyModel) -> None:
    """They ended in an "unexpected SerdeError"."""
    model = tiny()
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = onnx.TypeProto()
    kind.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    kind.sequence_type.elem_type.map_type.value_type.CopyFrom(tensor)
    model.graph.output.append(onnx.ValueInfoProto(name="probabilities", type=kind))
    refused(model, "output 'probabilities' holds maps")
    model.graph.output[-1].type.CopyFrom(helper.make_sequence_type_proto(tensor))
    check_message(model, "m.onnx")
