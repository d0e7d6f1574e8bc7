"""Models in one file or two, read again by onnx and by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dfq_deploy.errors import OutputError
from dfq_deploy.graph import large_models
from dfq_deploy.graph.large_models import in_memory
from dfq_deploy.graph.writing import write_model
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(3).normal(0, 1, (5, 16)).astype(np.float32)


@pytest.fixture
def proto(model_of: ModelOf) -> onnx.ModelProto:
    weights = {name: np.random.default_rng(i).normal(0, 1, (16, 16)).astype(np.float32) for i, name in enumerate("wv")}
    weights["b"] = np.arange(16, dtype=np.float32)
    nodes = "h = MatMul(x, w) z = Add(h, b) y = MatMul(z, v)"
    return ir.to_proto(ir.from_proto(model_of("float[n,16] x", "float[n,16] y", nodes, weights)))


def test_one_file_where_it_holds_all(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert write_model(ir.from_proto(proto), path) == (path,)
    assert onnx.load(path) == proto
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("by", ["argument", "limit"])
def test_weights_beside_it_else(
    proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    path, data = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    if by == "limit":
        monkeypatch.setattr(large_models, "LARGEST_MESSAGE", 2000)
    assert write_model(ir.from_proto(proto), path, 2000 if by == "argument" else None) == (path, data)
    assert set(tmp_path.iterdir()) == {path, data}
    assert data.stat().st_size == 4096 + 1024
    assert path.stat().st_size < 700
    assert data.stat().st_mode == path.stat().st_mode
    loaded = onnx.load(path)
    for tensor in loaded.graph.initializer:
        tensor.ClearField("data_location")
    assert loaded == proto
    (expected,) = Runner(proto.SerializeToString()).run(Samples(IMAGES))
    np.testing.assert_array_equal(Runner(path).run(Samples(IMAGES))[0], expected)


def test_a_model_can_be_written_over_the_data_that_it_is_mapped_from(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_model(ir.from_proto(proto), path, 0)
    before = onnx.load(path)
    model = in_memory(ir.load(path))
    write_model(model, path, 0)
    assert onnx.load(path) == before


def test_what_is_there_stays_where_writing_fails(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    (tmp_path / "net.onnx.data").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*net\.onnx\.data: "):
        write_model(ir.from_proto(proto), path, 0)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
