"""What SECURITY.md promises, tried with hostile files."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import ModelError, Samples, SamplesError, check, evaluate, inspect, load
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.synthesis.generators.file import GeneratorFile
from tests.conftest import TinyModel


class Bomb:
    """Leaves a file where whoever unpickles it stands."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path("executed").write_text, ("pickle",))


@pytest.fixture
def hostile(tiny: TinyModel, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model whose weights are in a file outside of its folder."""
    folder, outside = tmp_path / "model", tmp_path / "outside.data"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(tiny(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    (folder / "model.data").rename(outside)
    if request.param == "link":
        (folder / "model.data").symlink_to(outside)
        return path
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = {"above": "../outside.data", "absolute": str(outside)}[request.param]
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("hostile", ["above", "absolute", "link"], indirect=True)
@pytest.mark.parametrize("step", [load, inspect, check, lambda path: evaluate(path, path)])
def test_external_data_stays_in_its_folder(hostile: Path, step: Callable[[Path], object]) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx"):
        step(hostile)


def _pickles() -> dict[str, bytes]:
    return {
        "plain": pickle.dumps(Bomb(), protocol=2),
        "array": pickle.dumps(np.array([Bomb()], dtype=object), protocol=2),
    }


@pytest.mark.parametrize("kind", ["plain", "array"])
def test_no_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generator.pt").write_bytes(_pickles()[kind])
    (tmp_path / "samples.npz").write_bytes(_pickles()[kind])
    with pytest.raises(SamplesError):
        GeneratorFile.load(tmp_path / "generator.pt")
    with pytest.raises(SamplesError):
        Samples.load(tmp_path / "samples.npz")
    np.save(tmp_path / "images.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "images.npz", images=np.array([Bomb()], dtype=object))
    for name in ("images.npy", "images.npz"):
        with pytest.raises(SamplesError):
            read_samples(tmp_path / name, None, (3, 8, 8))
    assert not (tmp_path / "executed").exists()
    # The same bytes are harmful where pickles are executed.
    pickle.loads(_pickles()[kind])
    assert os.listdir(tmp_path).count("executed") == 1
