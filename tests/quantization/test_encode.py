"""From samples to encodings: the headroom of synthesized samples."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.encode import measure_ranges, prepare
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

IMAGES = np.linspace(-2, 5, 16, dtype=np.float32).reshape(8, 2)


@pytest.fixture
def measured(model_of: ModelOf) -> Callable[[Samples], tuple[float, float]]:
    """The range of the input, as it is measured on samples."""
    model = load(model_of("float[n,2] x", "float[n,3] y", "y = MatMul(x, w)", {"w": np.ones((2, 3), np.float32)}))
    prepared = prepare(model, find_target("cpu"))

    def ranges(samples: Samples) -> tuple[float, float]:
        types = {"x": prepared.placement.activations["x"]}
        (found,) = measure_ranges(prepared.model, types, find_plugin("calibrators", "minmax")(), samples).values()
        return float(found.low), float(found.high)

    return ranges


@pytest.mark.parametrize("method", ["", "deepinversion"])
@pytest.mark.parametrize(("synthetic", "expected"), [(False, (-2, 5)), (True, (-2.4, 6))])
def test_synthesized_samples_get_headroom_whatever_their_label(
    measured: Callable[[Samples], tuple[float, float]],
    tmp_path: Path,
    method: str,
    synthetic: bool,
    expected: tuple[float, float],
) -> None:
    samples = Samples(IMAGES, method=method, synthetic=synthetic)
    assert measured(samples) == pytest.approx(expected)
    samples.save(tmp_path / "samples.npz")
    for read in (Samples.load(tmp_path / "samples.npz"), read_samples(tmp_path / "samples.npz", None, (2,))):
        assert (read.method, read.is_synthetic) == (method, synthetic)
        assert measured(read) == pytest.approx(expected)
        assert measured(read.part(slice(0, 8))) == pytest.approx(expected)


def test_files_without_the_entry(measured: Callable[[Samples], tuple[float, float]], tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", images=IMAGES)
    np.savez(tmp_path / "synthesized.npz", images=IMAGES, method=np.array("zeroq"))
    assert measured(read_samples(tmp_path / "real.npz", None, (2,))) == pytest.approx((-2, 5))
    assert measured(read_samples(tmp_path / "synthesized.npz", None, (2,))) == pytest.approx((-2.4, 6))
