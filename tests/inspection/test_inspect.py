"""What inspect finds, on models whose contents are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.errors import ModelError, TargetError
from dfq_deploy.inspection.inspect import Inspection, TensorInfo, inspect

Model = Callable[..., onnx.ModelProto]


def problems(found: Inspection) -> list[str]:
    return [advice.problem for advice in found.advice]


def test_a_model_with_its_normalization(tmp_path: Path, tiny: Model) -> None:
    model = tiny()
    model.producer_name, model.producer_version = "pytorch", "2.13.0"
    onnx.save(model, tmp_path / "net.onnx")
    found = inspect(tmp_path / "net.onnx")
    assert (found.name, found.opset, found.producer) == ("net.onnx", 17, "pytorch 2.13.0")
    assert found.inputs == (TensorInfo("image", "float", ("batch", 3, 8, 8)),)
    assert found.outputs == (TensorInfo("scores", "float", ("batch", 4)),)
    assert found.classes == 4
    # Conv 6*3*3*3, four vectors of 6, Gemm 4*6 and its bias.
    assert found.parameters == 162 + 24 + 24 + 4
    assert found.file_bytes == (tmp_path / "net.onnx").stat().st_size
    assert found.operators["BatchNormalization"] == 1
    assert (found.batch_normalizations, found.foldable) == (1, 1)
    assert (found.weighted, found.left_float, found.unknown) == (2, (), ())
    applies = {fit.name for fit in found.methods if fit.applies}
    assert {"deepinversion", "noise", "procedural"} <= applies
    assert found.advice == ()


def test_a_file_without_normalization_is_no_problem_at_8_bits(tiny: Model) -> None:
    found = inspect(tiny(normalized=False))
    assert {fit.name: fit.applies for fit in found.methods}["deepinversion"] is False
    assert found.advice == ()
    (note,) = found.notes
    assert note.startswith("no BatchNormalization is left (exporters fold it by default). At 8 bits it is not needed")
    assert "--teacher teacher.onnx" in note


def test_operators_that_the_twin_does_not_know(tiny: Model) -> None:
    model = tiny()
    model.graph.node.append(helper.make_node("Wobble", ["scores"], ["wobbled"], "odd", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 3))
    found = inspect(model)
    assert found.unknown == (("odd", "acme::Wobble-3"),)
    assert found.operators["acme::Wobble"] == 1
    assert problems(found) == [
        "1 node(s) that the twin does not support (acme::Wobble-3), so no gradient reaches the input"
    ]
    assert found.to_json()["unknown"] == [{"name": "odd", "operator": "acme::Wobble-3"}]


def test_an_open_size(tiny: Model) -> None:
    model = tiny(size="side")
    (note,) = inspect(model).notes
    assert note.startswith("input 'image' (batch, 3, side, side) is measured at (3, 224, 224), a size that was chosen")
    fixed = inspect(model, input_shapes={"image": (1, 3, 16, 16)})
    assert fixed.inputs == (TensorInfo("image", "float", ("batch", 3, "side", "side")),)
    assert problems(fixed) == []
    assert fixed.notes == (
        "input 'image' is measured at (batch, 3, 16, 16), as --input-shape says; the quantized model keeps its open "
        "sizes, unless its target takes static shapes only (--fix-shapes closes them)",
    )


def test_several_open_sizes_are_fixed_in_one_line(tiny: Model) -> None:
    model = tiny(size="side")
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "words"]))
    notes = inspect(model).notes
    assert [note.split(", a size")[0] for note in notes] == [
        "input 'image' (batch, 3, side, side) is measured at (3, 224, 224)",
        "input 'mask' (batch, words) is measured at (64)",
    ]
    model.graph.node.append(helper.make_node("Reshape", ["image", "of_143"], ["cut"], "cut"))
    model.graph.initializer.append(helper.make_tensor("of_143", TensorProto.INT64, [4], [0, 3, 11, 13]))
    model.graph.output.append(helper.make_tensor_value_info("cut", TensorProto.FLOAT, ["batch", 3, 11, 13]))
    (advice,) = inspect(model).advice
    assert advice.problem == ("2 inputs are open beyond the batch: image (batch, 3, side, side), mask (batch, words)")
    assert advice.lines == ("--input-shape image:1,3,224,224 --input-shape mask:1,224",)


def test_other_inputs_are_said_to_be_drawn(tiny: Model) -> None:
    model = tiny()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", 5]))
    (sentence,) = inspect(model).drawn
    assert sentence.startswith("input 'mask' is 1 (a mask that hides nothing)")


def test_methods_leave_integers_to_the_rule() -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
    )
    found = inspect(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert not any(fit.applies for fit in found.methods)
    assert {fit.reason for fit in found.methods} == {"makes floats: integers are procedural, whatever --synth says"}
    assert found.drawn[0].startswith("input 'ids' is drawn from 0 to 1 (no table that it would index was found)")
    assert not any("BatchNormalization" in problem for problem in problems(found))


def test_weighted_operators_that_stay_float(tiny: Model) -> None:
    model = tiny()
    nodes = {node.op_type: node for node in model.graph.node}
    weight = nodes["Gemm"].input[1]
    model.graph.node.insert(0, helper.make_node("ReduceMax", [model.graph.input[0].name], ["peak"], keepdims=0))
    model.graph.node.insert(1, helper.make_node("Mul", [weight, "peak"], ["scaled"]))
    nodes["Gemm"].input[1] = "scaled"
    found = inspect(model)
    assert [(name, operator) for name, operator, _ in found.left_float] == [("fc", "Gemm")]
    (problem,) = problems(found)
    assert problem.startswith("1 weighted operator(s) stay float: its weight 'scaled' is computed, not a constant")


def test_nothing_to_quantize() -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert any(problem.startswith("no layer can be quantized") for problem in problems(inspect(model)))


def test_the_estimate_is_near_the_file_that_is_written(zoo: Path) -> None:
    found = inspect(zoo / "models/mobilenet_v1_075_224_bn.onnx")
    # A byte for each of 2.6 million weights, scales, biases and nodes.
    assert 2.6e6 < found.quantized_bytes < 3.0e6
    assert (found.batch_normalizations, found.foldable) == (27, 27)


def test_an_old_opset_is_the_files_own(tiny: Model) -> None:
    assert inspect(tiny(opset=11)).opset == 11


def test_what_cannot_be_inspected(tiny: Model) -> None:
    with pytest.raises(TargetError, match="unknown target 'abacus'"):
        inspect(tiny(), target="abacus")
    model = tiny()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((6, 3, 3, 3), np.nan, np.float32), model.graph.initializer[0].name)
    )
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        inspect(model)


def test_names_that_a_converter_made_up_are_not_shown(tiny: Model) -> None:
    for made_up in ("unk__749", "p2o.DynamicDimension.0", "image_dynamic_axes_1", "s26"):
        assert inspect(tiny(batch=made_up)).inputs[0].shape == ("?", 3, 8, 8)
    for given in ("batch", "N", "sequence_length"):
        assert inspect(tiny(batch=given)).inputs[0].shape == (given, 3, 8, 8)
    (note,) = inspect(tiny(batch="unk__1", size="unk__2")).notes
    assert note.startswith("input 'image' (?, 3, ?, ?) is measured at (3, 224, 224)")
