"""A batch of one for models that have none, as calibration sees it and as the file has it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy import calibrate
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.batch_axis import add_batch_axis, remove_batch_axis
from dfq_deploy.graph.inputs import NO_BATCH
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]
Arrays = dict[str, NDArray[np.generic]]


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def ran(model: onnx.ModelProto | bytes | Path, feeds: Arrays) -> NDArray[np.float32]:
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = ort.InferenceSession(source if isinstance(source, bytes) else str(source))
    found: NDArray[np.float32] = session.run(None, feeds)[0]
    return found


def signature(model: onnx.ModelProto) -> list[str]:
    return [onnx.helper.printable_value_info(value) for value in (*model.graph.input, *model.graph.output)]


@pytest.fixture
def picture(model_of: ModelOf) -> onnx.ModelProto:
    nodes = (
        "u = Unsqueeze(x, zero) c = Conv(u, k) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p)"
        " g = Gemm(f, w, b) y = Squeeze(g, zero)"
    )
    arrays = {"zero": np.zeros(1, np.int64), "k": normal(0, 8, 3, 3, 3), "w": normal(1, 8, 5), "b": normal(2, 5)}
    return model_of("float[3,16,16] x", "float[5] y", nodes, arrays)


@pytest.fixture
def graph(model_of: ModelOf) -> onnx.ModelProto:
    nodes = (
        "m = MatMul(x, w) s = Gather(links, zero) t = Gather(links, one) g = Gather(m, s)"
        " h = Shape(m) z = ConstantOfShape(h) a = Unsqueeze(t, last) j = Shape(g) e = Expand(a, j)"
        ' n = ScatterElements <axis = 0, reduction = "add"> (z, e, g) r = Relu(n) y = MatMul(r, v)'
    )
    arrays = {
        **{"zero": np.array(0, np.int64), "one": np.array(1, np.int64), "last": np.ones(1, np.int64)},
        **{"w": normal(0, 6, 16), "v": normal(1, 16, 4)},
    }
    return model_of("float[nodes,6] x, int64[2,edges] links", "float[nodes,4] y", nodes, arrays)


def test_added_and_removed(picture: onnx.ModelProto) -> None:
    model, feeds = load(picture), {"x": normal(3, 3, 16, 16)}
    (said,) = add_batch_axis(model)
    assert "input 'x' (3, 16, 16) has no batch" in said
    assert [list(value.shape or ()) for value in (*model.graph.inputs, *model.graph.outputs)] == [
        [1, 3, 16, 16],
        [1, 5],
    ]
    expected = ran(picture, {**feeds})
    np.testing.assert_allclose(ran(to_bytes(model), {"x": feeds["x"][None]}), expected[None], atol=1e-6)
    assert add_batch_axis(model) == []
    back, entries = remove_batch_axis(model, {"x_sample": 1, "x": 2, "y": 3, "k": 4})
    assert (dict(entries), back.metadata_props[NO_BATCH]) == ({"x": 1, "k": 4}, "x\ny")
    assert signature(onnx.load_from_string(to_bytes(back))) == signature(picture)
    np.testing.assert_allclose(ran(to_bytes(back), {**feeds}), expected, atol=1e-6)


def test_a_model_with_a_batch_is_left_alone(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4] x", "float[n,4] y", "y = Relu(x)", {}))
    assert add_batch_axis(model) == []
    entries = {"x": 1}
    assert remove_batch_axis(model, entries) == (model, entries)


def test_a_picture_without_a_batch(picture: onnx.ModelProto, tmp_path: Path) -> None:
    found = calibrate(picture, synth="procedural", count=16, preprocess="imagenet", output=tmp_path / "out")
    assert found.samples.images.shape == (16, 3, 16, 16)
    written = onnx.load(tmp_path / "out/model.qdq.onnx")
    assert signature(written) == signature(picture)
    assert {"x", "k", "w"} <= set(found.encodings)
    assert not [name for name in found.encodings if "_sample" in name]
    image = found.samples.images[0]
    exact, rounded = ran(picture, {"x": image}), ran(tmp_path / "out/model.qdq.onnx", {"x": image})
    assert exact.shape == rounded.shape == (5,)
    assert np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    assert found.report["comparison"]["outputs"][0]["snr_db"] > 25


def test_both_files_run_on_samples(picture: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(picture, tmp_path / "float.onnx")
    back, _ = remove_batch_axis(load_sized(picture), {})
    (tmp_path / "back.onnx").write_bytes(to_bytes(back))
    samples = Samples(normal(4, 3, 3, 16, 16))
    expected = np.stack([ran(picture, {"x": image}) for image in samples.images])
    for name in ("float.onnx", "back.onnx"):
        np.testing.assert_allclose(np.asarray(Runner(tmp_path / name).run(samples)[0]), expected, atol=1e-6)


def test_a_graph_of_open_size(graph: onnx.ModelProto, tmp_path: Path) -> None:
    found = calibrate(graph, synth="procedural", count=16, output=tmp_path / "out")
    nodes, links = found.samples.images.shape[1], found.samples.extra["links"]
    assert found.samples.images.shape[1:] == (nodes, 6)
    assert links.min() == 0
    assert nodes // 2 < links.max() < nodes
    written = onnx.load(tmp_path / "out/model.qdq.onnx")
    assert signature(written) == signature(graph)
    feeds: Arrays = {"x": normal(5, 7, 6) / np.float32(0.3), "links": np.random.default_rng(0).integers(0, 7, (2, 20))}
    exact, rounded = ran(graph, feeds), ran(tmp_path / "out/model.qdq.onnx", feeds)
    assert np.square(exact - rounded).sum() < 0.01 * np.square(exact).sum()


def test_a_shape_is_stated_as_the_file_has_it(graph: onnx.ModelProto) -> None:
    for stated in ([20, 6], [1, 20, 6]):
        model = load_sized(graph, {"x": stated})
        assert list(model.graph.inputs[0].shape or ()) == [1, 20, 6]
    with pytest.raises(ModelError, match="another number of axes"):
        load_sized(graph, {"x": [6]})


def test_other_sizes_hold_the_indices_that_were_drawn(model_of: ModelOf, tmp_path: Path) -> None:
    """Links index the nodes, and ``group`` a table of 8 rows: at a quarter of the size the last node is gone."""
    nodes = """m = MatMul(x, w) s = Gather(links, first) g = Gather(m, s) t = Gather(table, group) a = Add(m, t)
    p = ReduceMean <axes = [0]> (g) y = Add(a, p)"""
    arrays = {"w": normal(0, 6, 16), "table": normal(1, 8, 16), "first": np.array(0, np.int64)}
    inputs = "float[nodes,6] x, int64[2,edges] links, int64[nodes] group"
    proto = model_of(inputs, "float[nodes,16] y", nodes, arrays)
    said = " ".join(load_notes(load_sized(proto)))
    assert "its ranges at (128, 6) too" in said
    assert "(16, 6)" not in said
    found = calibrate(proto, synth="procedural", count=16, output=tmp_path / "out")
    assert found.samples.extra["links"].max() == found.samples.images.shape[1] - 1
    assert found.samples.extra["group"].max() == 7
    assert signature(onnx.load(tmp_path / "out/model.qdq.onnx")) == signature(proto)
