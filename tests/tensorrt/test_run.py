"""An engine against ONNX Runtime; on a machine with TensorRT and a GPU, a real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dfq_deploy.calibrators.tensorrt_network import gpu_obstacle
from dfq_deploy.exporters.tensorrt import TensorRT
from dfq_deploy.exporters.tensorrt_run import Trial, try_engine
from numpy.typing import NDArray

from dfq_deploy import calibrate
from dfq_deploy.contracts import Feeds
from dfq_deploy.evaluation.runner import Runner
from dfq_deploy.ports import feeds_of
from dfq_deploy.samples import Samples

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
    from dfq_deploy.exporters.tensorrt_run import Engine as Real

    engine, runner = Real(files[0].read_bytes()), Runner(path)
    for rows in (1, 4):
        feeds = feeds_of(runner.ports, samples.images[:rows], {})
        (expected,) = runner.session.run(None, feeds)
        np.testing.assert_allclose(engine.run(feeds)["scores"], expected, atol=0.05 * np.abs(expected).max())
