"""What native code does with a file, the first time that it is seen, happens in a child process."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import inspect, load
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.reading import blamed_on_the_file
from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.trial import complaint_about, try_file
from tests.conftest import TinyModel


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/dfq-deploy/models-seen"


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def of(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], path: Path) -> Path:
    """A model from x of shape [1, 3, 8, 8] to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_a_sound_file_is_tried_once(
    tiny: TinyModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tiny(), tmp_path / "m.onnx")
    assert try_file(path) is None
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("tried again"))
    assert try_file(path) is None


def test_time_is_limited(tiny: TinyModel, tmp_path: Path) -> None:
    with use_bounds(Bounds(seconds=0.01)), pytest.raises(ModelError, match=r"takes more than 0\.01 s"):
        try_file(saved(tiny(), tmp_path / "m.onnx"))


def test_a_file_that_took_too_long_is_not_tried_twice(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tiny(), tmp_path / "m.onnx")
    with use_bounds(Bounds(seconds=0.01)):
        with pytest.raises(ModelError, match=r"takes more than 0\.01 s"):
            try_file(path)
        monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("tried again"))
        with pytest.raises(ModelError, match=r"takes more than 0\.01 s"):
            complaint_about(path)
    monkeypatch.undo()
    with use_bounds(Bounds(seconds=60)):
        assert complaint_about(path) is None


@pytest.mark.parametrize("open_size", [True, False])
def test_a_run_at_sizes_that_are_no_model_s_own_is_no_complaint(tmp_path: Path, open_size: bool) -> None:
    """A mask as long as past and sequence is 2 where both are 1."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    path = of(nodes, {"s": np.array([7, 11])}, tmp_path / "m.onnx")
    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape
    shape.ClearField("dim")
    shape.dim.add().dim_param = "n"
    shape.dim.add(**({"dim_param": "t"} if open_size else {"dim_value": 1}))
    path = saved(model, tmp_path / "m.onnx")
    assert (complaint_about(path) is None) is open_size


def test_a_large_tensor_is_named_before_it_is_computed(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["r"]), helper.make_node("Expand", ["r", "s"], ["y"])]
    path = of(nodes, {"s": np.array([2**20, 2**10, 2**10, 8])}, tmp_path / "m.onnx")
    words = r"tensor 'y' of shape \[1048576, 1024, 1024, 8\] takes 35,184,372,088,832 bytes"
    with pytest.raises(ModelError, match=words):
        load(path)


def test_an_abort_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "abort.py"
    script.write_text('import os\nprint(\'{"stage": "shape inference"}\', flush=True)\nos.abort()\n')
    monkeypatch.setattr("dfq_deploy.validation.probe.__file__", str(script))
    path = of([helper.make_node("Relu", ["x"], ["y"])], {}, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: shape inference ends the process with status -6.*export it again"):
        load(path)


def test_an_exception_on_a_file_that_onnx_runtime_refuses_too_is_the_files_fault(tmp_path: Path) -> None:
    """A Pad with one size for four dimensions."""
    nodes = [helper.make_node("Pad", ["x", "p"], ["a"]), helper.make_node("Conv", ["a", "w"], ["y"])]
    path = of(nodes, {"p": np.array([1]), "w": np.ones((2, 3, 3, 3), np.float32)}, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="ONNX Runtime refuses it"):
        inspect(path)


def test_what_fails_in_onnx_runtime_s_run_is_the_files_fault_too(tmp_path: Path) -> None:
    """Sizes that are unknown until the model runs, and do not fit."""
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("NonZero", ["a"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    path = of(nodes, {"s": np.array([3, 64]), "w": np.ones((7, 2), np.float32)}, tmp_path / "m.onnx")
    assert try_file(path) is None
    with pytest.raises(ModelError, match=r"ONNX Runtime refuses it .*MatMul"), blamed_on_the_file(path):
        raise RuntimeError("a fault")


def test_a_model_that_refuses_the_trial_s_sizes_is_no_damaged_one(tmp_path: Path, cache: Path) -> None:
    """Zeros give a Reshape that cannot be."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8]),
            helper.make_tensor_value_info("s", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
    )
    graph.node[0].attribute.append(helper.make_attribute("allowzero", 1))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert try_file(saved(model, tmp_path / "m.onnx")) is None
    assert cache.is_dir()


def test_an_exception_on_a_sound_file_stays_what_it_is(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dfq_deploy.graph.loading.state_main_input", fault)
    with pytest.raises(ZeroDivisionError):
        load(saved(tiny(), tmp_path / "m.onnx"))
