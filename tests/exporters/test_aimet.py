"""AIMET's encodings out and in: the numbers of its own formula, and the same QDQ file after the round trip."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dfq_deploy import Samples, calibrate, export
from dfq_deploy.errors import ModelError

TinyModel = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def calibrated(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net.onnx``, its calibration in ``int8``, and both files of the exporter."""
    folder = tmp_path_factory.mktemp("aimet")
    onnx.save(tiny(normalized=False), folder / "net.onnx")
    samples = Samples(np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    calibrate(folder / "net.onnx", data=samples, method="minmax", refine=(), floor="none", output=folder / "int8")
    found = export(
        folder / "net.onnx", to="aimet", encodings=folder / "int8/encodings.json", output=folder / "net.aimet.onnx"
    )
    assert found.files == (folder / "net.aimet.onnx", folder / "net.aimet.encodings")
    return folder


def arrays(path: Path) -> dict[str, Any]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def assert_same(first: Path, second: Path) -> None:
    one, other = arrays(first), arrays(second)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_out_and_in_again_is_the_same_file(calibrated: Path, tmp_path: Path) -> None:
    beside = calibrated / "net.aimet.encodings"
    back = export(calibrated / "net.onnx", to="qdq", encodings=beside, output=tmp_path / "back.onnx")
    assert back.notes == ()
    assert_same(back.files[0], calibrated / "int8/model.qdq.onnx")


def test_offsets_count_from_zero(calibrated: Path) -> None:
    document = json.loads((calibrated / "net.aimet.encodings").read_text())
    ours = json.loads((calibrated / "int8/encodings.json").read_text())["tensors"]
    assert document["version"] == "1.0.0"
    (image,) = (entry for entry in document["activation_encodings"] if entry["name"] == "image")
    assert image == {
        **{"name": "image", "dtype": "INT", "bw": 8, "is_sym": False, "enc_type": "PER_TENSOR"},
        **{"scale": [ours["image"]["scale"]], "offset": [-ours["image"]["zero_point"]]},
    }
    weights = [entry for entry in document["param_encodings"] if entry["enc_type"] == "PER_CHANNEL"]
    assert weights
    assert all(set(entry["offset"]) == {-128} and entry["is_sym"] for entry in weights)


def test_the_older_form_of_aimet(calibrated: Path, tmp_path: Path) -> None:
    document = json.loads((calibrated / "net.aimet.encodings").read_text())

    def older(entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            entry["name"]: [
                {"bitwidth": entry["bw"], "dtype": "int", "is_symmetric": str(entry["is_sym"]), "scale": s, "offset": o}
                for s, o in zip(entry["scale"], entry["offset"], strict=True)
            ]
            for entry in entries
        }

    sections = {name: older(document[name]) for name in ("activation_encodings", "param_encodings")}
    image = sections["activation_encodings"]["image"]
    sections["activation_encodings"]["of a tensor that stays float"] = image
    sections["param_encodings"]["of a bias"] = image
    path = tmp_path / "older.json"
    path.write_text(json.dumps({"version": "0.6.1", **sections}))
    back = export(calibrated / "net.onnx", to="qdq", encodings=path, output=tmp_path / "back.onnx")
    assert back.notes == ("1 encodings of older.json were left out: cpu needs none there",)
    assert_same(back.files[0], calibrated / "int8/model.qdq.onnx")


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        ([], r"^empty\.json: it has no encoding for 'image', .* tensors that cpu quantizes; fold BatchNormalization"),
        (
            [{"name": "image"}],
            r"empty\.json: no AIMET encodings can be read from it \(KeyError: 'dtype'\); export them",
        ),
    ],
)
def test_a_file_that_does_not_fit(calibrated: Path, tmp_path: Path, activations: list[Any], message: str) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"version": "1.0.0", "activation_encodings": activations, "param_encodings": []}))
    with pytest.raises(ModelError, match=message):
        export(calibrated / "net.onnx", to="qdq", encodings=path, output=tmp_path / "none.onnx")
    assert not (tmp_path / "none.onnx").exists()


def test_a_quantized_file_has_no_encodings_to_hand_on(calibrated: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^aimet: AIMET takes the float model and its encodings; give the float file"):
        export(calibrated / "int8/model.qdq.onnx", to="aimet", output=tmp_path / "none.onnx")


def test_what_only_moves_values_has_the_encoding_of_what_it_moves(
    model_of: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "g": (36, 5)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = "c = Conv(x, w) m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c) f = Flatten(m) y = MatMul(f, g)"
    model = model_of("float[n,3,8,8] x", "float[n,5] y", nodes, weights)
    onnx.save(model, tmp_path / "net.onnx")
    samples = Samples(random.normal(size=(16, 3, 8, 8)).astype(np.float32))
    calibrate(
        tmp_path / "net.onnx", data=samples, target="qnn", method="minmax", refine=(), floor="none",
        output=tmp_path / "int8",
    )  # fmt: skip
    export(tmp_path / "net.onnx", to="aimet", encodings=tmp_path / "int8/encodings.json", output=tmp_path / "a.onnx")
    document = json.loads((tmp_path / "a.encodings").read_text())
    kept = [entry for entry in document["activation_encodings"] if entry["name"] not in ("m", "f")]
    assert len(kept) == len(document["activation_encodings"]) - 2
    (tmp_path / "theirs.encodings").write_text(json.dumps({**document, "activation_encodings": kept}))
    source, written = tmp_path / "net.onnx", []
    for name in ("a.encodings", "theirs.encodings"):
        path = tmp_path / f"{name}.onnx"
        written.append(export(source, to="qdq", encodings=tmp_path / name, target="qnn", output=path).files[0])
    assert_same(*written)
