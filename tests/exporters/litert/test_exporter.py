"""The exporter ``litert``: its files, what they say about themselves, and what is refused."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from dfq_deploy.exporters.litert import LiteRT
from dfq_deploy.exporters.litert.exporter import LABELS

from dfq_deploy import Encoding, Preprocess, Samples, TargetError, calibrate, export, find_target, load
from dfq_deploy.errors import ModelError, OptionError, PluginError
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.evaluation.evaluate import evaluate as evaluate_file
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.litert import schema
from dfq_deploy.runtime.litert.interpreter import AXES, LiteRtModel
from dfq_deploy.runtime.litert.runner import runner_of
from dfq_deploy.runtime.runner import Runner

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'dfq-deploy[litert]'")

Tiny = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(3).uniform(-1, 1, (16, 3, 8, 8)).astype(np.float32)
PIXELS = Preprocess((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``calibrate --target litert --integer-io`` writes."""
    output = tmp_path_factory.mktemp("litert") / "out"
    samples = Samples(IMAGES)
    calibrate(tiny(), data=samples, target="litert", refine=(), preprocess=PIXELS, integer_io=True, output=output)
    return output


@pytest.fixture(scope="module")
def quantized(tiny: Tiny) -> tuple[ir.Model, dict[str, Encoding]]:
    """A model as it is prepared for LiteRT, and its encodings."""
    made = encode(prepare(load(tiny()), find_target("litert")), calibrator_of("minmax"), Samples(IMAGES))
    return made.prepared.model, made.encodings


def size(path: Path) -> int:
    """Bytes."""
    return path.stat().st_size


def flat(path: Path) -> Any:
    """The file as the schema has it."""
    return schema().ModelT.InitFromObj(schema().Model.GetRootAs(path.read_bytes()))


def test_calibrate_writes_the_file_and_what_it_did_on_this_machine(folder: Path) -> None:
    assert {"model.qdq.onnx", "model.tflite", "model.integer.tflite"} <= {file.name for file in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    assert report["files"]["model.tflite"] == "the same for LiteRT (TensorFlow Lite)"
    (compared,) = [text for text in report["warnings"] if text.startswith("LiteRT against ONNX Runtime")]
    (timed,) = [text for text in report["warnings"] if text.startswith("LiteRT on this CPU")]
    assert "on the same encodings, 2 samples: 'scores'" in compared
    assert "operations by XNNPACK" in timed
    model, runner = LiteRtModel(folder / "model.tflite"), Runner(folder / "model.qdq.onnx")
    for image in IMAGES:
        (theirs,) = runner.feed(Samples(image[None]))
        ours = model.run({"image": image[None]})["scores"]
        assert np.abs(ours - theirs).max() < 0.03 * np.ptp(theirs)


def test_the_signature_and_the_order_of_axes(folder: Path) -> None:
    file = flat(folder / "model.tflite")
    (signature,) = file.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in (*signature.inputs, *signature.outputs)] == [b"image", b"scores"]
    (graph,) = file.subgraphs
    image = graph.tensors[signature.inputs[0].tensorIndex]
    assert (list(image.shape), image.type) == ([1, 8, 8, 3], schema().TensorType.FLOAT32)
    (axes,) = [entry for entry in file.metadata if entry.name == AXES.encode()]
    stated = json.loads(bytes(file.buffers[axes.buffer].data))
    assert stated == {"inputs": {"image": [0, 2, 3, 1]}, "outputs": {"scores": [0, 1]}}


@pytest.mark.parametrize("order", [b"[0, 2, 3, 3]", b"[0, 2, 3, 9]", b"[0, [[2, 3]"])
def test_an_order_of_axes_that_is_none(folder: Path, tmp_path: Path, order: bytes) -> None:
    content = (folder / "model.tflite").read_bytes()
    assert content.count(b"[0, 2, 3, 1]") == 1
    (tmp_path / "m.tflite").write_bytes(content.replace(b"[0, 2, 3, 1]", order.ljust(12)))
    with pytest.raises(ModelError, match=rf"m\.tflite: its metadata '{AXES}' cannot be read \(.*\); export it again"):
        LiteRtModel(tmp_path / "m.tflite")


def test_constants_are_aligned_to_sixteen_bytes(folder: Path) -> None:
    content = (folder / "model.tflite").read_bytes()
    model = schema().Model.GetRootAs(content)
    start = np.frombuffer(content, np.uint8).ctypes.data
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    stored = [buffer for buffer in buffers if buffer.DataLength()]
    assert len(stored) > 4
    assert {(buffer.DataAsNumpy().ctypes.data - start) % 16 for buffer in stored} == {0}


def test_the_same_model_gives_the_same_bytes(quantized: tuple[ir.Model, dict[str, Encoding]], tmp_path: Path) -> None:
    for name in ("a.tflite", "b.tflite"):
        LiteRT().export(*quantized, tmp_path / name)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_bytes_in_integers_out(folder: Path) -> None:
    model, floats = LiteRtModel(folder / "model.integer.tflite"), LiteRtModel(folder / "model.tflite")
    (fed,), (given,) = model.inputs, model.outputs
    assert (str(fed.dtype), fed.shape, str(given.dtype)) == ("uint8", (1, 8, 8, 3), "int8")
    low, high = PIXELS.bounds(3)
    # The pixels that the float images are closest to.
    pixels = np.rint((IMAGES - low[:, None, None]) / (high - low)[:, None, None] * 255).clip(0, 255)
    for index, image in enumerate(PIXELS.apply(pixels.astype(np.uint8).transpose(0, 2, 3, 1))):
        raw = model.run({"image": pixels[index][None].astype(np.uint8)})["scores"]
        expected = floats.run({"image": image[None]})["scores"]
        assert np.abs(raw - expected).max() < 0.08 * np.ptp(expected)


def test_the_normalization_is_in_the_metadata_schema(folder: Path) -> None:
    file = flat(folder / "model.tflite")
    (entry,) = [entry for entry in file.metadata if entry.name == b"TFLITE_METADATA"]
    content = bytes(file.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    # Field 2 is input_tensor_metadata, 4 its process_units, whose options have mean and std.
    subgraph = table_of(root(content), 3, 0)
    options = child(table_of(table_of(subgraph, 2, 0), 4, 0), 1)
    assert floats_of(options, 0) == [127.5, 127.5, 127.5]
    assert floats_of(options, 1) == [127.5, 63.75, 127.5]


def test_evaluate_takes_the_file(folder: Path, tiny: Tiny, tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "float.onnx")
    found = evaluate_file(tmp_path / "float.onnx", folder / "model.tflite", Samples(IMAGES))
    assert (found.comparison.count, found.kernels, found.quantized_bytes) == (16, None, size(folder / "model.tflite"))
    (ours,) = found.comparison.outputs
    (theirs,) = compare(tmp_path / "float.onnx", folder / "model.qdq.onnx", Samples(IMAGES)).outputs
    assert theirs.snr > 20
    assert abs(theirs.snr - ours.snr) < 1.5
    (whole,) = compare(tmp_path / "float.onnx", runner_of(folder / "model.integer.tflite"), Samples(IMAGES)).outputs
    assert whole.snr > 15


def test_labels_are_packed_and_named(quantized: tuple[ir.Model, dict[str, Encoding]], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog \n\nbird\nfish\n")
    files = LiteRT(labels=str(tmp_path / "names.txt")).export(*quantized, tmp_path / "net.tflite").files
    with zipfile.ZipFile(io.BytesIO(files[0].read_bytes())) as archive:
        assert archive.namelist() == [LABELS]
        assert archive.read(LABELS) == b"cat\ndog\nbird\nfish\n"
    LiteRtModel(files[0])  # the archive behind the model does not disturb the runtime
    with pytest.raises(OptionError, match=r"labels=.*none.txt cannot be read .*; give a text file"):
        LiteRT(labels=str(tmp_path / "none.txt")).export(*quantized, tmp_path / "other.tflite")
    assert not (tmp_path / "other.tflite").exists()


def test_the_order_of_the_graph_on_request(quantized: tuple[ir.Model, dict[str, Encoding]], tmp_path: Path) -> None:
    found = {}
    for layout, shape in (("nhwc", (1, 8, 8, 3)), ("nchw", (1, 3, 8, 8))):
        LiteRT(layout=layout).export(*quantized, tmp_path / f"{layout}.tflite")
        model = LiteRtModel(tmp_path / f"{layout}.tflite")
        assert model.inputs[0].shape == shape
        found[layout] = model.run({"image": IMAGES[:1]})["scores"]
    np.testing.assert_array_equal(found["nhwc"], found["nchw"])


def test_a_file_of_another_tool_is_exported(digits_int8: Path, held_out: Samples, tmp_path: Path) -> None:
    # u8 activations and float logits, as for ONNX Runtime on a CPU.
    exported = export(digits_int8, to=LiteRT(), output=tmp_path / "digits.tflite")
    assert exported.files == (tmp_path / "digits.tflite",)
    model, runner = LiteRtModel(exported.files[0]), Runner(digits_int8)
    some = held_out.part(slice(24))
    (theirs,) = runner.run(some)
    assert isinstance(theirs, np.ndarray)
    ours = np.concatenate([next(iter(model.run({runner.main.name: image[None]}).values())) for image in some.images])
    assert (ours.argmax(1) == theirs.argmax(1)).all()
    assert np.abs(ours - theirs).mean() < 0.02 * np.ptp(theirs)


def test_missing_operators_are_named_before_any_work(model_of: Tiny, tmp_path: Path) -> None:
    nodes = "a = Celu (x) b = Conv (a, w) y = Erf (b)"
    model = model_of("float[1,3,8,8] x", "float y", nodes, {"w": np.ones((4, 3, 3, 3), np.float32)})
    with pytest.raises(TargetError) as caught:
        calibrate(model, synth="procedural", target="litert", output=tmp_path / "out")
    assert str(caught.value).startswith("litert: no LiteRT operation is written for 2 node(s): Celu 'Celu_0'; Erf ")
    assert not (tmp_path / "out").exists()


def test_widths_that_the_kernels_lack_are_refused(tiny: Tiny) -> None:
    with pytest.raises(OptionError, match=r"LiteRT .* takes activations of 8 or 16 bits, not 4; choose e.g. w4a8"):
        calibrate(tiny(), data=Samples(IMAGES), target="litert", bits="w4a4")


def test_without_the_package_the_way_out_is_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    with pytest.raises(PluginError, match=r"pip install 'dfq-deploy\[litert\]'"):
        calibrate(tiny(), data=Samples(IMAGES), target="litert")


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bad.tflite: LiteRT cannot load it"):
        LiteRtModel(tmp_path / "bad.tflite")
    with pytest.raises(ModelError, match=r"none.tflite: cannot be read"):
        LiteRtModel(tmp_path / "none.tflite")


@pytest.mark.parametrize(("options", "message"), [({"layout": "hwc"}, "no layout 'hwc'"), ({"batch": 0}, "batch=0")])
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LiteRT(**options)


# The metadata flatbuffer is read by hand: by its format, not by what wrote it.


def root(content: bytes) -> tuple[bytes, int]:
    """The first table."""
    return content, int.from_bytes(content[:4], "little")


def field(table: tuple[bytes, int], number: int) -> int:
    """The position of a field."""
    content, start = table
    virtual = start - int.from_bytes(content[start : start + 4], "little", signed=True)
    slot = virtual + 4 + 2 * number
    assert slot < virtual + int.from_bytes(content[virtual : virtual + 2], "little")
    offset = int.from_bytes(content[slot : slot + 2], "little")
    assert offset
    return start + offset


def child(table: tuple[bytes, int], number: int) -> tuple[bytes, int]:
    """The table that a field refers to."""
    content, place = table[0], field(table, number)
    return content, place + int.from_bytes(content[place : place + 4], "little")


def table_of(table: tuple[bytes, int], number: int, index: int) -> tuple[bytes, int]:
    """A table of the vector in a field."""
    content, start = child(table, number)
    place = start + 4 + 4 * index
    return content, place + int.from_bytes(content[place : place + 4], "little")


def floats_of(table: tuple[bytes, int], number: int) -> list[float]:
    """The numbers of the vector in a field."""
    content, start = child(table, number)
    count = int.from_bytes(content[start : start + 4], "little")
    return [float(value) for value in np.frombuffer(content, np.float32, count, start + 4)]
