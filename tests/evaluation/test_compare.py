"""Float against quantized on models whose outputs are known."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from dfq_deploy.errors import DfqError, ModelError, SamplesError
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.graph.file_info import is_quantized, stored_bytes
from dfq_deploy.runtime.runner import Runner, slices
from dfq_deploy.samples.samples import Samples

Model = Callable[..., onnx.ModelProto]


def scaled(factor: float, *, batch: int | str = "n", width: int = 3, output: str = "y") -> onnx.ModelProto:
    """y = factor * x."""
    shape = [batch, width]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], [output])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(factor, np.float32), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(count: int = 5, width: int = 3, *, labels: bool = False) -> Samples:
    images = np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)
    return Samples(images, images.argmax(axis=1) if labels else None)


def stored(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self.feeds = iter([{"image": image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None:
        return next(self.feeds, None)


def test_a_scaled_output_has_the_snr_of_its_factor() -> None:
    found = compare(scaled(1.0).SerializeToString(), scaled(0.9).SerializeToString(), samples(200))
    (output,) = found.outputs
    assert output.name == "y"
    # The noise is a tenth of the signal in amplitude.
    assert output.snr == pytest.approx(20, abs=1e-4)
    assert found.scores is not None
    assert found.scores.agreement == 100


def test_negated_scores_never_agree() -> None:
    found = compare(scaled(1.0).SerializeToString(), scaled(-1.0).SerializeToString(), samples(labels=True))
    assert found.scores is not None
    assert (found.scores.agreement, found.scores.float_top1, found.scores.quantized_top1) == (0, 100, 0)


def test_soft_labels_count_by_their_largest() -> None:
    given = samples()
    soft = Samples(given.images, np.exp(given.images))
    found = compare(scaled(1.0).SerializeToString(), scaled(1.0).SerializeToString(), soft)
    assert found.scores is not None
    assert found.scores.float_top1 == 100


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_fixed_batch_is_filled_up(count: int) -> None:
    given = samples(count)
    (output,) = Runner(scaled(2.0, batch=4).SerializeToString()).run(given)
    np.testing.assert_array_equal(output, 2 * given.images)


def test_slices_cover_every_sample_once_and_stay_small() -> None:
    images = np.zeros((100, 3, 512, 512), np.float32)
    parts = list(slices(images))
    assert [index for part in parts for index in range(100)[part]] == list(range(100))
    assert max(images[part].nbytes for part in parts) <= 2**25


def test_a_file_of_another_tool_is_evaluated(tmp_path: Path, tiny: Model) -> None:
    float_path = stored(tiny(normalized=False), tmp_path / "float.onnx")
    images = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    quantize_static(
        float_path,
        tmp_path / "int8.onnx",
        Reader(images),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    found = evaluate(float_path, tmp_path / "int8.onnx", Samples(images, np.zeros(16, np.int64)), source="noise")
    assert 20 < found.comparison.outputs[0].snr < 60
    assert found.data == "noise"
    assert found.warnings == ("16 samples tell accuracy only roughly; mind the standard error",)
    assert found.float_bytes == float_path.stat().st_size
    plain = found.to_json()
    assert plain["float_top1"] is not None
    assert plain["latency"] == []


def test_without_data_pictures_are_drawn_and_said_to_be(tmp_path: Path, tiny: Model) -> None:
    path = stored(tiny(), tmp_path / "float.onnx")
    found = evaluate(path, path, seed=3)
    assert found.data == "256 procedural pictures (seed 3), no real data"
    assert found.comparison.scores is not None
    assert found.comparison.scores.float_top1 is None
    assert found.warnings == (
        f"{path} holds no quantized operator: is it the float model?",
        "pictures drawn by rule show agreement, not accuracy; give real images with --data",
    )


def test_latency_comes_for_both_batch_sizes(tmp_path: Path, tiny: Model) -> None:
    path = stored(tiny(), tmp_path / "float.onnx")
    images = Samples(np.zeros((2, 3, 8, 8), np.float32))
    found = evaluate(path, path, images, latency=True)
    assert [entry.batch for entry in found.latency] == [1, 8]
    for entry in found.latency:
        assert entry.low <= entry.ratio <= entry.high
        assert entry.float_ms > 0


def test_models_of_different_fixed_batches_are_not_timed(tmp_path: Path, tiny: Model) -> None:
    first, second = (stored(tiny(batch=batch), tmp_path / f"{batch}.onnx") for batch in (1, 2))
    found = evaluate(first, second, Samples(np.zeros((2, 3, 8, 8), np.float32)), latency=True)
    assert found.latency == ()
    assert "the two models are fixed to different batch sizes, so their latencies are not compared" in found.warnings


def refused(kind: type[DfqError], words: str, first: bytes | Path, second: bytes | Path, given: Samples) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        compare(first, second, given)


def test_what_does_not_match_is_named(tmp_path: Path) -> None:
    one = scaled(1.0).SerializeToString()
    refused(ModelError, f"{tmp_path / 'no.onnx'}: no such file", one, tmp_path / "no.onnx", samples())
    (tmp_path / "text.onnx").write_text("this is no model")
    refused(ModelError, "text.onnx: ONNX Runtime cannot load it (", one, tmp_path / "text.onnx", samples())
    refused(SamplesError, "takes samples of shape (3); these have (4,)", one, one, samples(width=4))
    wrong = Samples(samples().images, np.array([0, 1, 2, 3, 0]))
    refused(SamplesError, "label 3 of the samples is outside the model's 3 classes (0 to 2)", one, one, wrong)
    from_one = Samples(samples().images, np.array([1, 2, 3, 1, 2]))
    refused(SamplesError, "(0 to 2); they begin at 1: subtract 1 from each", one, one, from_one)
    two = scaled(1.0)
    two.graph.output.append(two.graph.input[0])
    refused(ModelError, "has 2 output(s) and the model has 1", one, two.SerializeToString(), samples())
    infinite = scaled(np.inf).SerializeToString()
    refused(ModelError, "output 'y' is NaN or infinite on these samples", one, infinite, samples())


def test_outputs_of_other_shapes_are_named() -> None:
    wide = scaled(1.0)
    wide.graph.node.append(helper.make_node("Concat", ["y", "y"], ["wide"], axis=1))
    wide.graph.output[0].CopyFrom(helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["n", 6]))
    words = "output 'y' has shape (5, 6), the float model's (5, 3)"
    refused(ModelError, words, scaled(1.0).SerializeToString(), wide.SerializeToString(), samples())


def test_every_input_is_fed_in_its_own_type() -> None:
    model = scaled(1.0)
    model.graph.input.append(helper.make_tensor_value_info("k", TensorProto.INT64, ["n", 3]))
    model.graph.node[0].output[0] = "scaled"
    model.graph.node.append(helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Add", ["scaled", "f"], ["y"]))
    given = samples()
    numbers = np.arange(given.images.size).reshape(given.images.shape)
    (output,) = Runner(model.SerializeToString()).run(Samples(given.images, extra={"k": numbers}))
    assert output is not None
    np.testing.assert_allclose(output, given.images + numbers, rtol=1e-6)
    with pytest.raises(
        SamplesError, match=r"^samples: nothing for input 'k' \(int64\); save it in the \.npz as 'input:k'"
    ):
        Runner(model.SerializeToString()).run(given)


def with_node(model: onnx.ModelProto, node: onnx.NodeProto, kind: int, shape: list[int | str]) -> onnx.ModelProto:
    """The model with one more node, whose last output is an output of the model."""
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info(node.output[-1], kind, shape))
    return model


def test_an_output_without_a_batch_is_compared_as_a_whole() -> None:
    first, second = (
        with_node(scaled(factor), helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0), TensorProto.FLOAT, [])
        for factor in (1.0, 0.5)
    )
    found = compare(first.SerializeToString(), second.SerializeToString(), samples(5))
    assert [output.name for output in found.outputs] == ["y", "sum"]
    # Half of the sum is missing, whatever the sum is: 20 log10(2) dB.
    assert found.outputs[1].snr == pytest.approx(6.0206, abs=1e-3)
    assert found.left_out == ()
    # Three numbers beside another output may be a point in space, unless there are labels.
    assert found.scores is None
    labelled = compare(first.SerializeToString(), second.SerializeToString(), samples(5, labels=True))
    assert labelled.scores is not None
    assert labelled.scores.float_top1 == 100


@pytest.mark.parametrize("count", [1, 3])
def test_an_output_of_a_batch_of_one_need_not_have_it(count: int) -> None:
    """An attention map (tokens, tokens) of a model that takes one text at a time."""
    first, second = (
        with_node(
            scaled(factor, batch=1),
            helper.make_node("Einsum", ["y", "y"], ["map"], equation="ni,nj->ij"),
            TensorProto.FLOAT,
            [3, 3],
        )
        for factor in (1.0, 2.0)
    )
    given = samples(count)
    runs = Runner(first.SerializeToString()).run(given)[1]
    assert isinstance(runs, tuple)
    for image, run in zip(given.images, runs, strict=True):
        np.testing.assert_allclose(run, np.outer(image, image), rtol=1e-6)
    found = compare(first.SerializeToString(), second.SerializeToString(), given)
    # Four times the map: the noise is three times the signal in amplitude.
    assert found.outputs[1].snr == pytest.approx(20 * np.log10(1 / 3), abs=1e-3)


def test_an_output_whose_size_depends_on_the_sample_is_left_out(tmp_path: Path) -> None:
    model = with_node(scaled(1.0), helper.make_node("NonZero", ["x"], ["places"]), TensorProto.INT64, [2, "found"])
    model.graph.node.insert(0, helper.make_node("Relu", ["x"], ["positive"]))
    model.graph.node[2].input[0] = "positive"
    del model.graph.output[0]
    plain = samples(5)
    varied = Samples(np.concatenate([plain.images] * 20), None)
    varied.images[:64, 0] = -1
    content = model.SerializeToString()
    found = compare(content, content, varied)
    assert (found.outputs, found.left_out, found.scores) == ((), ("places",), None)
    onnx.save(model, tmp_path / "model.onnx")
    said = evaluate(tmp_path / "model.onnx", tmp_path / "model.onnx", varied).warnings
    assert said[-1] == (
        "not compared, since their size depends on the sample: places; cut the model before them to do so"
    )


def test_cuda_where_there_is_none() -> None:
    with pytest.raises(ModelError, match="device 'cuda:0': this ONNX Runtime has no CUDA"):
        Runner(scaled(1.0).SerializeToString(), device="cuda:0")


def test_external_data_counts_in_the_size(tmp_path: Path, tiny: Model) -> None:
    onnx.save(tiny(), tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    expected = sum((tmp_path / name).stat().st_size for name in ("model.onnx", "model.data"))
    assert stored_bytes(tmp_path / "model.onnx") == expected
    assert is_quantized(tmp_path / "model.onnx") is False
    (tmp_path / "model.ort").write_bytes(b"other")
    assert is_quantized(tmp_path / "model.ort") is None
    assert stored_bytes(tmp_path / "model.ort") == 5


def test_outputs_of_the_same_names_are_told_by_these() -> None:
    """Tools write the outputs of a graph in any order; under other names their places tell."""
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "a", "b", "c")}

    def model(absolute: str, negative: str, outputs: str) -> bytes:
        nodes = [helper.make_node("Abs", ["x"], [absolute]), helper.make_node("Neg", ["x"], [negative])]
        graph = helper.make_graph(nodes, "g", [ends["x"]], [ends[name] for name in outputs])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())

    for quantized in (model("a", "b", "ba"), model("a", "c", "ac")):
        found = compare(model("a", "b", "ab"), quantized, samples())
        assert [(entry.name, entry.snr) for entry in found.outputs] == [("a", np.inf), ("b", np.inf)]
    changed = compare(model("a", "b", "ab"), model("b", "a", "ab"), samples())
    assert all(entry.snr < 10 for entry in changed.outputs)
