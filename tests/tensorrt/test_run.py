"""An engine against ONNX Runtime; on a machine with TensorRT and a GPU, a real one."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from dfq_deploy.exporters import tensorrt_run as plugin
from dfq_deploy.exporters.tensorrt import TensorRT
from dfq_deploy.exporters.tensorrt_run import Engine as RealEngine
from dfq_deploy.exporters.tensorrt_run import Trial, try_engine
from numpy.typing import NDArray

from dfq_deploy import calibrate
from dfq_deploy.errors import SamplesError, TargetError
from dfq_deploy.graph.inputs import Feeds, make_feeds
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.tensorrt.package import gpu_obstacle
from dfq_deploy.samples.samples import Samples

TinyModel = Callable[..., onnx.ModelProto]


class Engine:
    """ONNX Runtime with an error of a known size, in place of an engine."""

    outputs = ("scores",)

    def __init__(self, path: Path, batches: tuple[int, int], error: float) -> None:
        self._runner = Runner(path)
        self._batches, self._error = batches, error
        self.rows: list[int] = []
        self.timed: list[int] = []

    def batches(self, name: str) -> tuple[int, int]:
        assert name == "image"
        return self._batches

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        self.rows.append(len(feeds["image"]))
        (scores,) = self._runner.session.run(None, dict(feeds))
        return {"scores": scores * (1 + self._error)}

    def milliseconds(self, feeds: Feeds) -> float:
        self.timed.append(len(feeds["image"]))
        return 0.125 * len(feeds["image"])


class Context:
    """Keeps the addresses that it is given; takes at most four rows."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if name == "unknown" else (*self.shapes["x"][:1], 2)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address


class Plan:
    """An engine of x, float32 (n, 2), and of the outputs that it is made with; ``y`` is int32 and twice x."""

    def __init__(self, *outputs: str) -> None:
        self.names = ("x", *outputs)
        self.num_io_tensors = len(self.names)
        self.context = Context()

    def create_execution_context(self) -> Context:
        return self.context

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "x" else "output"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT" if name == "x" else "INT32")

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        return (-1, 2)

    def get_tensor_profile_shape(self, _: str, profile: int) -> tuple[tuple[int, ...], ...]:
        assert profile == 0
        return (1, 2), (2, 2), (4, 2)


class Host(RealEngine):  # type: ignore[misc]  # mypy cannot see an editable install's import hooks
    """The class under test, but that it computes on the host."""

    plan: Plan

    def _launch(self, runs: int) -> list[float]:
        context = self.plan.context
        count = 2 * context.shapes["x"][0]
        x = (ctypes.c_float * count).from_address(context.addresses["x"])
        y = (ctypes.c_int * count).from_address(context.addresses["y"])
        y[:] = [int(2 * value) for value in x]
        return [float(run) for run in range(runs)]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """Makes an engine of a plan."""

    def make(plan: Plan | None) -> Host:
        class Logger:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

        runtime = SimpleNamespace(deserialize_cuda_engine=lambda _: plan)
        trt = SimpleNamespace(
            __version__="10.16.1.11",
            ILogger=Logger,
            Runtime=lambda _: runtime,
            TensorIOMode=SimpleNamespace(INPUT="input"),
        )
        monkeypatch.setattr(plugin, "tensorrt_package", lambda: trt)
        monkeypatch.setattr(plugin, "DEVICE", "cpu")
        if plan is not None:
            Host.plan = plan
        return Host(b"plan")

    return make


def test_tensors_are_bound_by_name_shape_and_type(host: Callable[..., Host]) -> None:
    engine = host(Plan("y"))
    assert (engine.inputs, engine.outputs, engine.batches("x")) == (("x",), ("y",), (1, 4))
    x = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::3]  # not contiguous
    found = engine.run({"x": x})
    assert found["y"].dtype == np.int32
    assert found["y"].tolist() == [[0, 6], [12, 18]]
    assert engine.milliseconds({"x": x}) == 49.5  # the median of 0 to 99


def test_what_an_engine_cannot_take_is_one_line(host: Callable[..., Host]) -> None:
    engine = host(Plan("y"))
    with pytest.raises(SamplesError, match=r"^samples: the engine does not support shape \(5, 2\) for input 'x'$"):
        engine.run({"x": np.zeros((5, 2), np.float32)})
    with pytest.raises(SamplesError, match=r"^samples: nothing for input 'x'; fed z$"):
        engine.run({"z": np.zeros((1, 2), np.float32)})
    with pytest.raises(
        TargetError, match=r"^output 'unknown': its shape depends on values, which is not supported here$"
    ):
        host(Plan("y", "unknown")).run({"x": np.zeros((1, 2), np.float32)})
    with pytest.raises(TargetError, match=r"^TensorRT 10\.16\.1\.11 cannot load the engine: it gives no reason$"):
        host(None)


@pytest.fixture
def samples() -> Samples:
    return Samples(np.random.default_rng(0).standard_normal((7, 3, 8, 8)).astype(np.float32))


@pytest.mark.parametrize(("batches", "rows", "timed"), [((1, 4), [4, 3], [1, 4]), ((4, 4), [4, 4], [4])])
def test_an_engine_is_compared_on_every_sample_once(
    tiny: TinyModel,
    tmp_path: Path,
    samples: Samples,
    batches: tuple[int, int],
    rows: list[int],
    timed: list[int],
) -> None:
    onnx.save(tiny(), tmp_path / "m.onnx")
    engine = Engine(tmp_path / "m.onnx", batches, error=0.01)
    trial = try_engine(engine, tmp_path / "m.onnx", samples)
    assert (engine.rows, engine.timed) == (rows, timed)
    assert trial.samples == 7
    assert trial.snr["scores"] == pytest.approx(40.0, abs=1e-3)  # one percent of each value
    assert trial.agreement == 100.0
    assert trial.latency == {batch: 0.125 * batch for batch in timed}


def test_a_trial_is_told_in_two_sentences() -> None:
    assert Trial(64, {"scores": 41.26, "boxes": 33.0}, 99.22, {1: 0.4123, 8: 1.0}).sentences() == (
        "the engine against ONNX Runtime on 64 samples: 'scores' 41.3 dB, 'boxes' 33.0 dB, the same class first in "
        "99.2 %",
        "the engine's latency on this GPU: batch 1 0.412 ms, batch 8 1.000 ms",
    )
    assert Trial(1, {"y": 50.0}, None, {1: 1.0}).sentences()[0].endswith("on 1 samples: 'y' 50.0 dB")


def test_a_real_engine_says_what_onnx_runtime_says(tiny: TinyModel, tmp_path: Path, samples: Samples) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed", exc_type=ImportError)
    if gpu_obstacle():
        pytest.skip(gpu_obstacle())
    onnx.save(tiny(), tmp_path / "m.onnx")
    calibrate(tmp_path / "m.onnx", data=samples, target="tensorrt", output=tmp_path / "out")
    path = tmp_path / "out/model.qdq.onnx"
    files, said = TensorRT(max_batch=4, timing_cache=str(tmp_path / "timing")).build(path, samples)
    assert files == (tmp_path / "out/model.engine",), said
    engine, runner = RealEngine(files[0].read_bytes()), Runner(path)
    for rows in (1, 4):
        feeds = make_feeds(runner.ports, samples.images[:rows], {})
        (expected,) = runner.session.run(None, feeds)
        np.testing.assert_allclose(engine.run(feeds)["scores"], expected, atol=0.05 * np.abs(expected).max())
