"""What is given in place of an ONNX model is named, with the way to ONNX."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.reading import read_any

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(64), "a TFLite file; python -m tf2onnx.convert --tflite m.tflite"),
        ("m.ort", b"\x18\0\0\0ORTM" + bytes(64), "a file in ONNX Runtime's own format; give the .onnx file"),
        ("m.engine", b"ftrt" + bytes(64), "a TensorRT engine; give the .onnx file that it was built from"),
        ("m.gguf", b"GGUF" + bytes(64), "a GGUF file"),
        ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "an OpenVINO model; export the model"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "a Keras model"),
        ("m.param", b"7767517\n3 3\n", "an ncnn model"),
        ("m.safetensors", struct.pack("<Q", len(HEADER)) + HEADER + bytes(4), "a safetensors file: weights without"),
        ("m.mlmodel", b"\x08\x05\x12\x04abcd", "a Core ML model"),
        ("frozen.pb", b"\n\x0aaaaaaaaaaa", "a TensorFlow graph; python -m tf2onnx.convert --graphdef frozen.pb"),
        ("m.pdmodel", b"\n\x90\x01" + bytes(8), "a Paddle model; paddle2onnx"),
        ("m.onnx", b"", "empty; copy or download it again"),
        ("m.onnx", b"<!DOCTYPE html><html>", "a web page; download the file itself"),
    ],
)
def test_files(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (load, read_any):
        with pytest.raises(ModelError) as refusal:
            read(path)
        assert str(refusal.value).startswith(f"{path}: not an ONNX model but {said}")


def test_torch(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "new.pt")
    torch.save({"w": torch.zeros(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pth"):
        with pytest.raises(ModelError, match=r"but a PyTorch checkpoint; load it in Python, then torch\.onnx\.export"):
            load(tmp_path / name)


def test_archives(tmp_path: Path) -> None:
    zipped(tmp_path / "m.keras", "config.json", "model.weights.h5")
    zipped(tmp_path / "script.pt", "script/data.pkl", "script/constants.pkl", "script/code/m.py")
    zipped(tmp_path / "m.zip", "a/model.onnx")
    np.savez(tmp_path / "samples.npz", images=np.zeros(3))
    expected = {
        "m.keras": "a Keras model",
        "script.pt": "a TorchScript model",
        "m.zip": "unpack it and give a/model.onnx",
    }
    for name, said in (*expected.items(), ("samples.npz", "arrays are samples, for --data")):
        with pytest.raises(ModelError, match=said):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("Manifest.json", "Data/model"), "a Core ML package; export"),
        (("saved_model.pb",), "a TensorFlow SavedModel; python -m tf2onnx.convert --saved-model given"),
        (("config.json", "model.safetensors"), "a folder of Hugging Face; optimum-cli export onnx --model given"),
        ((), "a folder; give the path of an .onnx file"),
    ],
)
def test_folders(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(ModelError) as refusal:
        load(folder)
    assert str(refusal.value).startswith(f"{folder}: not an ONNX model but {said}")


def test_a_folder_of_models(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for name in "ba":
        (tmp_path / "given" / f"{name}.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=f"e.g. {tmp_path / 'given/a.onnx'}$"):
        load(tmp_path / "given")
