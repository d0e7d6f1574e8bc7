"""Faults beside scales, planted into files of this package and of ONNX Runtime's quantizer, are named first."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from dfq_deploy import calibrate
from dfq_deploy.evaluation import changed_nodes, missing_clips
from dfq_deploy.evaluation import file_checks as checks_of_files
from dfq_deploy.evaluation.file_checks import FileChecks, file_checks
from dfq_deploy.evaluation.float_file import Fed
from dfq_deploy.evaluation.scale_check import FAULT
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.graph.loading import load, load_quantized
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.samples import Samples
from tests.conftest import ModelOf

RUINED, GOOD = 0.0, 40.0
"""Signal to noise of the outputs in dB."""

Change = Callable[[NDArray[Any]], NDArray[Any]]

OPTIONS: dict[str, dict[str, Any]] = {
    "bias": {"refine": ["bias"]},
    "equalize": {"refine": ["equalize", "bias"]},
    "four": {"bits": "w4a8", "refine": ["bias"]},
    "tensorrt": {"target": "tensorrt", "refine": ["equalize", "bias"]},
    "qnn": {"target": "qnn", "refine": ["bias"]},
}


@pytest.fixture(scope="module")
def sound(
    digits_bn: Path, held_out: Samples, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], onnx.ModelProto]:
    """The digits' network, quantized with one of :data:`OPTIONS`."""
    made: dict[str, onnx.ModelProto] = {}

    def of(name: str) -> onnx.ModelProto:
        if name not in made:
            output = tmp_path_factory.mktemp(name) / "out"
            calibrate(digits_bn, data=held_out.part(slice(32)), floor="none", output=output, **OPTIONS[name])
            made[name] = onnx.load(output / "model.qdq.onnx")
        copy = onnx.ModelProto()
        copy.CopyFrom(made[name])
        return copy

    return of


def change(model: onnx.ModelProto, name: str, by: Change) -> onnx.ModelProto:
    """``model`` with other values of one constant, in place."""
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    old = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array(np.asarray(by(old)).astype(old.dtype), name))
    return model


def checked(digits_bn: Path, model: onnx.ModelProto | Path, samples: Samples, snr: float = RUINED) -> FileChecks:
    return file_checks(load(digits_bn), load_quantized(model), samples.part(slice(100, 108)), snr)


def biases(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return [node for node in model.graph.node if types.get(node.input[0]) == TensorProto.INT32]


@pytest.mark.parametrize("name", OPTIONS)
def test_sound_files_have_no_fault(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto], name: str
) -> None:
    found = checked(digits_bn, sound(name), held_out)
    assert found.sentences == ()
    assert found.scales


@pytest.mark.parametrize("name", ["bias", "equalize", "four"])
@pytest.mark.parametrize(
    ("place", "by", "times"),
    [(0, lambda integers: integers * 2, 2), (0, lambda integers: integers * 0, 0), (1, lambda scale: scale * 8, 8)],
)
def test_biases(
    digits_bn: Path,
    held_out: Samples,
    sound: Callable[[str], onnx.ModelProto],
    name: str,
    place: int,
    by: Change,
    times: int,
) -> None:
    for node in biases(sound(name))[:-1:3]:  # at 4 bits the last one is smaller than its correction
        found = checked(digits_bn, change(sound(name), node.input[place], by), held_out)
        first = found.faults[0]
        assert (first.kind, first.tensor) == ("bias", node.input[0])
        if times == 0:
            assert "is zero, and float's is not" in str(first)
        elif name != "four":  # bias correction at 4 bits moves biases too
            told = re.search(r"is ([0-9.]+) times float's", str(first))
            assert told is not None
            assert float(told[1]) == pytest.approx(times, rel=0.1)


def test_one_value_of_a_bias(digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]) -> None:
    def one(integers: NDArray[Any]) -> NDArray[Any]:
        moved = integers.copy()
        moved[2] += 20 * int(np.abs(integers).max())
        return moved

    node = biases(sound("bias"))[1]
    (fault,) = checked(digits_bn, change(sound("bias"), node.input[0], one), held_out).faults
    assert fault.tensor == node.input[0]
    assert "has another value than float's in channel 2" in str(fault)


def test_a_float_bias(digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]) -> None:
    model = sound("tensorrt")
    held = {tensor.name for tensor in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type == "Conv" and node.input[2] in held)
    found = checked(digits_bn, change(model, node.input[2], lambda bias: bias * 2), held_out)
    assert [fault.tensor for fault in found.faults] == [node.input[2]]


def test_a_relu_that_was_dropped(digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]) -> None:
    for target in [node for node in sound("tensorrt").graph.node if node.op_type == "Relu"][::3]:
        model = sound("tensorrt")  # its integers go as far below zero as above
        model.graph.node.remove(next(node for node in model.graph.node if node.name == target.name))
        for node in model.graph.node:
            node.input[:] = [target.input[0] if name == target.output[0] else name for name in node.input]
        first = checked(digits_bn, model, held_out).faults[0]
        assert (first.kind, first.node) == ("node", f"Relu '{target.name}'")
        assert f"Relu '{target.name}' of the float model is missing in the quantized file" in str(first)


def test_a_relu_that_the_integers_stand_for_is_no_fault(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]
) -> None:
    model = sound("bias")  # its integers begin at zero behind a Relu
    for target in [node for node in model.graph.node if node.op_type == "Relu"]:
        readers = [node for node in model.graph.node if target.output[0] in node.input]
        if all(node.op_type == "QuantizeLinear" for node in readers):
            model.graph.node.remove(target)
            for node in readers:
                node.input[0] = target.input[0]
    assert not any(node.op_type == "Relu" for node in model.graph.node)
    assert checked(digits_bn, model, held_out).sentences == ()
    conv = [node for node in model.graph.node if node.op_type == "Conv"][1]
    pads = next(entry for entry in conv.attribute if entry.name == "pads")
    assert list(pads.ints) == [1, 1, 1, 1]
    pads.ints[:] = [2, 2, 0, 0]
    first = checked(digits_bn, model, held_out).faults[0]
    assert first.node == f"Conv '{conv.name}'"
    assert "has pads=[2, 2, 0, 0], and float [1, 1, 1, 1]" in str(first)


def test_relus_that_are_missing_are_looked_at_together(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of each file, however many are missing: a session for each would take minutes in a large network."""
    asked: list[int] = []

    def counted(model: ir.Model, names: Sequence[str], samples: Samples) -> dict[str, NDArray[np.float32]]:
        asked.append(len(names))
        return tensor_values(model, names, samples)

    monkeypatch.setattr(missing_clips, "tensor_values", counted)
    model = sound("tensorrt")
    relus = {node.output[0]: node for node in model.graph.node if node.op_type == "Relu"}
    for node in relus.values():
        model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [relus[name].input[0] if name in relus else name for name in node.input]
    assert checked(digits_bn, model, held_out).faults
    assert len(asked) == 2
    assert asked[0] == asked[1] > 1


def test_files_of_fixed_batches(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto], tmp_path: Path
) -> None:
    """The float file takes one sample, and the quantized one four."""
    model, single = sound("bias"), onnx.load(digits_bn)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Neg"
    for entry, batch in ((model, 4), (single, 1)):
        for value in (*entry.graph.input, *entry.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        del entry.graph.value_info[:]
    onnx.save(single, tmp_path / "single.onnx")
    assert checked(tmp_path / "single.onnx", model, held_out).faults[0].node.startswith("Neg ")


def test_a_range_that_clips_a_little_hides_no_node(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]
) -> None:
    model = sound("bias")
    relu = [node for node in model.graph.node if node.op_type == "Relu"][1]
    scale = next(node.input[1] for node in model.graph.node if node.input[0] == relu.output[0])
    narrow = change(model, scale, lambda value: value * 0.6)
    found = checked(digits_bn, narrow, held_out)
    assert [check.tensor for check in found.scales if check.is_fault and check.is_mild] == [relu.output[0]]
    assert found.sentences == ()
    relu.op_type = "Neg"
    assert checked(digits_bn, narrow, held_out).faults[0].node == f"Neg '{relu.name}'"


def test_a_node_with_another_operator(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]
) -> None:
    model = sound("bias")
    target = next(node for node in model.graph.node if node.op_type == "Relu")
    target.op_type = "Neg"
    first = checked(digits_bn, model, held_out).faults[0]
    assert (first.kind, first.node) == ("node", f"Neg '{target.name}'")
    assert f"stands for Relu '{target.name}' of the float model" in str(first)


@pytest.fixture(scope="module")
def stranger(digits_bn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the same form and names, with other weights."""
    model, rng = onnx.load(digits_bn), np.random.default_rng(3)
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            old = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(rng.permutation(old.ravel()).reshape(old.shape), tensor.name))
    path = tmp_path_factory.mktemp("stranger") / "stranger.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", ["bias", "equalize"])
def test_the_float_file_of_another_network(
    stranger: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto], name: str
) -> None:
    found = checked(stranger, sound(name), held_out)
    (sentence,) = found.sentences
    assert sentence.startswith("the quantized file was not made from this float file: ")
    assert (found.faults[0].kind, found.scales) == ("another-network", ())


def test_outputs_that_agree_are_of_no_other_network(
    stranger: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]
) -> None:
    found = checked(stranger, sound("bias"), held_out, GOOD)
    assert "another-network" not in {fault.kind for fault in found.faults}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, images: NDArray[np.float32]) -> None:
        self.rows = iter([{name: images[row : row + 1]} for row in range(len(images))])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


@pytest.fixture(scope="module")
def foreign(digits_folded: Path, held_out: Samples, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as ONNX Runtime quantizes it: in operators on integers, and with ranges computed at run time."""
    folder = tmp_path_factory.mktemp("foreign")
    files = {name: folder / f"{name}.onnx" for name in ("static", "one scale", "dynamic")}
    for name in ("static", "one scale"):
        reader = _Reader(onnx.load(digits_folded).graph.input[0].name, held_out.images[:32])
        quantize_static(
            str(digits_folded), str(files[name]), reader, quant_format=QuantFormat.QOperator,
            per_channel=name == "static",
        )  # fmt: skip
    quantize_dynamic(str(digits_folded), str(files["dynamic"]))
    return files


def weights(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Integers and scale of the weight of each layer that computes on integers."""
    held = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in ("QLinearConv", "QGemm"):
            found.append((node.input[3], node.input[4]))
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            found.append((node.input[1], node.input[1].replace("_quantized", "_scale")))
    assert {name for pair in found for name in pair} <= held
    return found


@pytest.mark.parametrize("form", ["static", "one scale", "dynamic"])
def test_layers_that_compute_on_integers(
    digits_folded: Path, held_out: Samples, foreign: dict[str, Path], form: str
) -> None:
    sound_file = onnx.load(foreign[form])
    assert checked(digits_folded, sound_file, held_out).sentences == ()
    assert len(weights(sound_file)) >= 5
    for integers, scale in weights(sound_file)[::3]:
        wrong = change(onnx.load(foreign[form]), scale, lambda values: values * 8)
        found = checked(digits_folded, wrong, held_out)
        assert found.sentences[0].startswith(f"the scale of weight '{integers}' of ")
        assert "about 8 times too large" in found.sentences[0]
    integers = weights(sound_file)[0][0]
    swapped = change(onnx.load(foreign[form]), integers, lambda values: values[[1, 0, *range(2, len(values))]])
    (sentence,) = checked(digits_folded, swapped, held_out).sentences
    assert f"weight '{integers}'" in sentence
    assert "channel 0 holds what float has in channel 1" in sentence


def test_inputs_beyond_a_range_of_16_bits_are_no_fault(digits_folded: Path, held_out: Samples, tmp_path: Path) -> None:
    """Other pictures reach a little further than those of the calibration, which rounding at 16 bits does not cover."""
    few = held_out.images[:4]
    reader = _Reader(onnx.load(digits_folded).graph.input[0].name, few)
    path = tmp_path / "deep.onnx"
    quantize_static(str(digits_folded), str(path), reader, per_channel=True, activation_type=QuantType.QUInt16)
    found = checked(digits_folded, path, held_out)
    assert [check for check in found.scales if check.excess > FAULT]
    assert not [check for check in found.scales if check.cause == "zero point" and check.snr > 30]


def test_a_zero_point_is_named_as_such(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto]
) -> None:
    node = next(node for node in sound("bias").graph.node if node.op_type == "QuantizeLinear")
    wrong = change(sound("bias"), node.input[2], lambda zero: np.asarray(zero, np.int32) ^ 128)
    sentence = checked(digits_bn, wrong, held_out).sentences[0]
    assert sentence.startswith(f"the zero point of activation '{node.input[0]}' is ")
    assert ", where its values need about " in sentence


CHECKS = {
    "with_float_layers": "layers that compute on integers",
    "weight_checks": "the scales of the weights",
    "activation_checks": "the scales of the activations",
    "bias_faults": "the biases",
    "changed_nodes": "the nodes",
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_fails_takes_no_other_with_it(
    digits_bn: Path,
    held_out: Samples,
    sound: Callable[[str], onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("an odd file")

    monkeypatch.setattr(checks_of_files, name, failing)
    scale = next(node.input[1] for node in sound("bias").graph.node if node.op_type == "QuantizeLinear")
    bias = biases(sound("bias"))[1].input[0]
    both = change(change(sound("bias"), scale, lambda value: value * 8), bias, lambda values: values * 2)
    found = checked(digits_bn, both, held_out)
    first = f"{CHECKS[name]} of the quantized file were not checked: RuntimeError: an odd file"
    assert found.unchecked[0] == first
    assert any(check.is_fault for check in found.scales) == (name != "activation_checks")
    assert [fault.tensor for fault in found.faults] == ([] if name in ("weight_checks", "bias_faults") else [bias])
    if name == "weight_checks":
        assert found.unchecked[1].startswith("the biases and the nodes of the quantized file were not checked: ")


def test_a_file_that_cannot_be_checked_is_said_to_be(
    digits_bn: Path,
    held_out: Samples,
    sound: Callable[[str], onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def failing(*_: object) -> None:
        raise IndexError("no such input")

    onnx.save(sound("bias"), tmp_path / "q.onnx")
    monkeypatch.setattr(checks_of_files, "load_quantized", failing)
    found, said = checks_of_files.check_files(
        (digits_bn, tmp_path / "q.onnx"), held_out, Fed(None, None, None, None), RUINED
    )
    assert found.scales == ()
    assert said == found.unchecked
    assert said[0].endswith("of the quantized file were not checked: IndexError: no such input")


def test_few_tensors_are_in_memory_at_once(
    digits_bn: Path, held_out: Samples, sound: Callable[[str], onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a large network's would not fit."""
    shown: list[int] = []

    def counted(model: ir.Model, names: Sequence[str]) -> ir.Model:
        shown.append(len(names))
        return expose_tensors(model, names)

    model = sound("bias")
    for node in model.graph.node:
        node.op_type = "Neg" if node.op_type == "Relu" else node.op_type
    expected = checked(digits_bn, model, held_out)
    monkeypatch.setattr(changed_nodes, "expose_tensors", counted)
    monkeypatch.setattr(changed_nodes, "CHUNK", 3)
    assert checked(digits_bn, model, held_out).faults == expected.faults
    assert max(shown) == 3
    assert len(shown) > 2


@pytest.fixture(scope="module")
def deep(digits_folded: Path, held_out: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in Q and DQ with activations of 16 bits, as ONNX Runtime quantizes it: without any Relu."""
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    reader = _Reader(onnx.load(digits_folded).graph.input[0].name, held_out.images[:32])
    quantize_static(str(digits_folded), str(path), reader, per_channel=True, activation_type=QuantType.QUInt16)
    return path


@pytest.mark.parametrize("form", ["static", "deep"])
def test_a_zero_point_of_integers_that_stand_for_a_relu(
    digits_folded: Path, held_out: Samples, foreign: dict[str, Path], deep: Path, form: str
) -> None:
    """Half of the integers away, they let through what the Relu does not, and reach as far as eight pictures go."""
    model = onnx.load(deep if form == "deep" else foreign[form])
    assert not any(node.op_type == "Relu" for node in model.graph.node)
    kind = np.iinfo(np.uint16 if form == "deep" else np.int8)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    behind_relus = [
        name for name, array in held.items() if array.dtype == kind.dtype and array.size == 1 and array == kind.min
    ]
    assert len(behind_relus) >= 5
    for name in behind_relus:
        wrong = change(copied(model), name, lambda zero: zero.astype(np.int32) + 2 ** (kind.bits - 1))
        sentence = checked(digits_folded, wrong, held_out).sentences[0]
        tensor = f"activation '{name.removesuffix('_zero_point')}'"
        assert sentence.startswith(
            (f"the zero point of {tensor} is ", f"{tensor} is clipped beside a scale of the right")
        )


def test_a_scale_that_a_bias_follows_from(digits_folded: Path, held_out: Samples, foreign: dict[str, Path]) -> None:
    """In a layer that computes on integers the bias has no scale of its own: it is too large with the activation's."""
    model = onnx.load(foreign["one scale"])
    layers = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    for node in layers[1::3]:
        for factor, words in ((3.5, "3.5 times too large"), (2.5, "2.5 times too large")):
            wrong = change(copied(model), node.input[1], partial(np.multiply, np.float32(factor)))
            found = checked(digits_folded, wrong, held_out)
            assert {fault.kind for fault in found.faults} <= {"scale"}
            assert found.faults or factor < 3
            tensor = node.input[0].removesuffix("_quantized")
            start = f"the scale of activation '{tensor}' is about {words}: the bias '"
            assert all(str(fault).startswith(start) for fault in found.faults)
        wrong = change(copied(model), node.input[8], lambda integers: integers * 3)
        first = checked(digits_folded, wrong, held_out).faults[0]
        assert (first.kind, first.tensor) == ("bias", node.input[8])


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@pytest.mark.parametrize("blocks", [False, True])
def test_weights_alone_of_four_bits(tmp_path: Path, blocks: bool) -> None:
    """Nothing computes on integers: the weights are checked all the same, or said not to be."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.1, (64, 32)).astype(np.float32)
    scale = np.abs(weight.reshape(4, 16, 32)).max(axis=1) / 7 if blocks else np.abs(weight).max(axis=0) / 7
    every = np.repeat(scale, 16, axis=0) if blocks else scale
    integers = np.clip(np.rint(weight / every), -8, 7).astype(np.int8)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 64), ("y", 32))
    ]
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    options: dict[str, Any] = {"axis": 0, "block_size": 16} if blocks else {"axis": 1}
    nodes = [helper.make_node("DequantizeLinear", ["wq", "s"], ["w"], **options), product]
    opsets = [helper.make_opsetid("", 21)]

    def saved(name: str, nodes: list[onnx.NodeProto], held: list[onnx.TensorProto]) -> Path:
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / name)
        return tmp_path / name

    exact = saved("float.onnx", [product], [numpy_helper.from_array(weight, "w")])
    stored = helper.make_tensor("wq", TensorProto.INT4, (64, 32), integers.flatten().tolist())
    samples = Samples(rng.normal(size=(8, 64)).astype(np.float32))
    fed = Fed(None, None, None, None)
    for times in (1, 8):
        file = saved("q.onnx", nodes, [stored, numpy_helper.from_array((scale * times).astype(np.float32), "s")])
        _, said = checks_of_files.check_files((exact, file), samples, fed, RUINED)
        if blocks:
            (sentence,) = said
            assert sentence.startswith("the weights of MatMul 'fc' of the quantized file were not checked: ")
        elif times == 1:
            assert not said
        else:
            assert said[0].startswith("the scale of weight 'wq' of MatMul 'fc' is about 8")
    assert checks_of_files.check_files((exact, exact), samples, fed, RUINED) == (FileChecks(), ())


def test_operators_on_integers_of_a_model_without_a_batch_are_checked(model_of: ModelOf, tmp_path: Path) -> None:
    """The scales of the activations were left out, since a sample was fed with a batch."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (16, 24)).astype(np.float32)
    numbers = {name: rng.normal(0, 0.2, (24, 24)).astype(np.float32) for name in ("a", "b")}
    numbers["c"] = rng.normal(size=24).astype(np.float32)
    exact, file = tmp_path / "float.onnx", tmp_path / "q.onnx"
    nodes = "m = MatMul(x, a) h = Add(m, c) t = Tanh(h) y = MatMul(t, b)"
    onnx.save(model_of("float[24] x", "float[24] y", nodes, numbers), exact)
    reader = _Reader("x", rows)
    reader.rows = iter([{"x": row} for row in rows])
    quantize_static(exact, file, reader, quant_format=QuantFormat.QOperator)
    found, said = checks_of_files.check_files((exact, file), Samples(rows), Fed(None, None, None, None), GOOD)
    assert not said
    assert {"x", "y"} <= {check.tensor for check in found.scales}
