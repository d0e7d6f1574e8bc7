"""Tell what a file or folder is that is given in place of an ONNX model, and the way to ONNX."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["foreign_format"]

HEAD_BYTES = 512

TORCH = "load it in Python, then torch.onnx.export(model.eval(), example, 'model.onnx')"
MODULE = "or give dfq_deploy.calibrate the torch.nn.Module itself"
TF2ONNX = "python -m tf2onnx.convert"
SOURCE = "export the model that it was made from to ONNX"


@dataclass(frozen=True)
class _Format:
    """What a file is, and what to do.

    Args:
        fits: told by its first bytes and its suffix.
    """

    what: str
    way: str
    fits: Callable[[bytes, str], bool]


def _starts(magic: bytes, at: int = 0) -> Callable[[bytes, str], bool]:
    return lambda head, _: head[at : at + len(magic)] == magic


def _suffix(*suffixes: str) -> Callable[[bytes, str], bool]:
    return lambda _, suffix: suffix in suffixes


def _is_safetensors(head: bytes, _: str) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and 1 < int.from_bytes(head[:8], "little") < 2**31


def _is_openvino(head: bytes, suffix: str) -> bool:
    return suffix == ".xml" and b"<net" in head


def _is_text(head: bytes, _: str) -> bool:
    """True for text; a binary model begins with control characters. The head may end inside a character."""
    try:
        text = head.decode("utf-8") if len(head) < HEAD_BYTES else head[: HEAD_BYTES - 4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return len(text) * 2 > len(head) and all(letter.isprintable() or letter in "\t\n\r" for letter in text)


def _is_page(head: bytes, _: str) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


FORMATS = (
    _Format("empty", "copy or download it again", lambda head, _: not head),
    _Format("a TFLite file", f"{TF2ONNX} --tflite FILE --output model.onnx", _starts(b"TFL3", 4)),
    _Format("a file in ONNX Runtime's own format", "give the .onnx file that it was made from", _starts(b"ORTM", 4)),
    _Format("a TensorRT engine", "give the .onnx file that it was built from", _starts(b"ftrt")),
    _Format("a GGUF file", SOURCE, _starts(b"GGUF")),
    _Format("an OpenVINO model", SOURCE, _is_openvino),
    _Format("a Keras model (HDF5)", f"load it in Python, then {TF2ONNX} --saved-model", _starts(b"\x89HDF")),
    _Format("an ncnn model", SOURCE, _starts(b"7767517")),
    _Format("a NumPy array", "give the model; arrays are samples, for --data", _starts(b"\x93NUMPY")),
    _Format("a picture", "give the model; pictures are samples, for --data", _starts(b"\x89PNG")),
    _Format("a picture", "give the model; pictures are samples, for --data", _starts(b"\xff\xd8\xff")),
    _Format("a web page", "download the file itself", _is_page),
    _Format(
        "a safetensors file: weights without a network",
        f"load them into their network, then {TORCH.partition(', then ')[2]}; "
        "of Hugging Face: optimum-cli export onnx --model FOLDER OUT",
        _is_safetensors,
    ),
    _Format("a PyTorch checkpoint", f"{TORCH}, {MODULE}", _starts(b"\x80")),
    _Format("a Core ML model", SOURCE, _suffix(".mlmodel")),
    _Format("a TensorFlow graph", f"{TF2ONNX} --graphdef FILE --output model.onnx", _suffix(".pb")),
    _Format("a Paddle model", "paddle2onnx --model_dir FOLDER --save_file model.onnx", _suffix(".pdmodel")),
    _Format("a Caffe model", "convert it with a converter for Caffe", _suffix(".caffemodel", ".prototxt")),
    _Format("a text file", "give the path of an .onnx file", _is_text),
)


ARCHIVES = {
    "model.weights.h5": f"a Keras model; load it in Python, model.export('saved'), then {TF2ONNX} --saved-model saved",
    "constants.pkl": f"a TorchScript model; {TORCH.replace('load it', 'torch.jit.load it')}",
    "data.pkl": f"a PyTorch checkpoint; {TORCH}, {MODULE}",
    "archive_format": "a torch.export program; give dfq_deploy.calibrate(torch.export.load(FILE), ...) in Python",
}
"""End of a name inside a zip -> what the zip is, and the way to ONNX; the first that fits."""


def foreign_format(path: Path) -> str | None:
    """What stands at ``path``, and the way to ONNX, for an error; None where that is not known.

    Only the first bytes and the names inside an archive are read; nothing is unpickled.
    """
    if path.is_dir():
        return _folder(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return None
    if head[:4] == b"PK\x03\x04":
        return _archive(path)
    found = next((one for one in FORMATS if one.fits(head, path.suffix.lower())), None)
    return None if found is None else f"{found.what}; {found.way.replace('FILE', path.name)}"


def _folder(path: Path) -> str:
    names = {entry.name for entry in path.iterdir()}
    if path.suffix == ".mlpackage" or {"Manifest.json", "Data"} <= names:
        return f"a Core ML package; {SOURCE}"
    if "saved_model.pb" in names:
        return f"a TensorFlow SavedModel; {TF2ONNX} --saved-model {path.name} --output model.onnx"
    models = sorted(name for name in names if name.endswith(".onnx"))
    if models:
        return f"a folder; give the model in it, e.g. {path / models[0]}"
    if "config.json" in names and any(name.endswith((".safetensors", ".bin")) for name in names):
        return f"a folder of Hugging Face; optimum-cli export onnx --model {path.name} OUT"
    return "a folder; give the path of an .onnx file"


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "a damaged archive; copy or download it again"
    known = next((said for end, said in ARCHIVES.items() if any(name.endswith(end) for name in names)), None)
    if known is not None:
        return known
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of arrays; give the model; arrays are samples, for --data"
    models = [name for name in names if name.endswith(".onnx")]
    return f"a zip archive; unpack it{f' and give {models[0]}' if models else ''}"
