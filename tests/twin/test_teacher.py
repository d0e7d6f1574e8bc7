"""The twin that synthesis and refinement run, of a model of volumes."""

from pathlib import Path

import numpy as np
import torch

from dfq_deploy import Samples, calibrate
from dfq_deploy.graph.loading import load
from dfq_deploy.twin.teacher import teacher_of
from tests.conftest import ModelOf

RNG = np.random.default_rng(0)


def test_weights_of_five_dimensions_stay_as_they_are(model_of: ModelOf) -> None:
    weight = RNG.normal(0, 0.3, (4, 2, 3, 3, 3)).astype(np.float32)
    model = load(model_of("float[n,2,6,6,6] x", "float[n,4,4,4,4] y", "y = Conv(x, w)", {"w": weight}))
    volumes = torch.from_numpy(RNG.normal(0, 1, (3, 2, 6, 6, 6)).astype(np.float32))
    wanted = torch.nn.functional.conv3d(volumes, torch.from_numpy(weight))
    torch.testing.assert_close(teacher_of(model, {}, "cpu")(volumes), wanted)


def test_weights_of_four_dimensions_are_channels_last(model_of: ModelOf) -> None:
    weight = RNG.normal(0, 0.3, (4, 2, 3, 3)).astype(np.float32)
    twin = teacher_of(load(model_of("float[n,2,6,6] x", "float y", "y = Conv(x, w)", {"w": weight})), {}, "cpu")
    (parameter,) = twin.parameters()
    assert parameter.is_contiguous(memory_format=torch.channels_last)


def test_volumes_are_reconstructed(model_of: ModelOf, tmp_path: Path) -> None:
    weights = {name: RNG.normal(0, 0.3, shape).astype(np.float32) for name, shape in SHAPES.items()}
    nodes = "c = Conv <pads = [1,1,1,1,1,1]> (x, w) r = Relu(c) y = Conv(r, v)"
    model = model_of("float[n,2,6,6,6] x", "float[n,3,6,6,6] y", nodes, weights)
    samples = Samples(RNG.normal(0, 1, (8, 2, 6, 6, 6)).astype(np.float32))
    found = calibrate(model, data=samples, bits="w4a8", floor="none", output=tmp_path / "out")
    assert found.report["calibration"]["refine"] == ["reconstruct"]
    assert not [said for said in found.report["warnings"] if "left out" in said]


SHAPES = {"w": (8, 2, 3, 3, 3), "v": (3, 8, 1, 1, 1)}
