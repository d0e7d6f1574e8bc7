"""Ten ways to be wrong, and more: each is refused in one line that names the thing, the place and the way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.errors import DfqError, ModelError, PluginError, SamplesError, TargetError, UnsupportedOperators
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.samples.samples import Samples

TinyModel = Callable[..., onnx.ModelProto]

Attempt = Callable[[TinyModel, Path], object]


def drawn(model: onnx.ModelProto | Path, **options: Any) -> object:
    """The shortest way through the whole pipeline."""
    return calibrate(model, synth="procedural", count=8, **options)


def stored(model: onnx.ModelProto, folder: Path, **options: Any) -> Path:
    onnx.save(model, folder / "net.onnx", **options)
    return folder / "net.onnx"


def written(content: bytes, folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(content)
    return folder / "net.onnx"


def without_data(tiny: TinyModel, folder: Path) -> Path:
    path = stored(tiny(), folder, save_as_external_data=True, location="net.data", size_threshold=0)
    (folder / "net.data").unlink()
    return path


def quantized(tiny: TinyModel) -> onnx.ModelProto:
    model = tiny()
    model.graph.node[0].input[0] = "rounded"
    node = helper.make_node("DynamicQuantizeLinear", ["image"], ["bytes", "scale", "zero"], "round")
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["rounded"]))
    model.graph.node.insert(0, node)
    return model


def diverged(tiny: TinyModel) -> onnx.ModelProto:
    model = tiny()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 6), np.nan, np.float32), weight.name))
    return model


def odd(tiny: TinyModel) -> onnx.ModelProto:
    """With three nodes that ONNX Runtime has and the twin does not, one of them inside a subgraph."""
    model = tiny()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["batch", 4])
    inner = helper.make_node("Inverse", ["scores"], ["inner"], "third", domain="com.microsoft")
    plain = helper.make_node("Identity", ["scores"], ["inner"])
    model.graph.node.extend(
        [
            helper.make_node("Inverse", ["scores"], ["a"], "first", domain="com.microsoft"),
            helper.make_node("Rfft", ["a"], ["b"], "second", domain="com.microsoft"),
            helper.make_node("ReduceMax", ["scores"], ["top"], keepdims=0),
            helper.make_node("Cast", ["top"], ["sure"], to=TensorProto.BOOL),
            helper.make_node(
                "If",
                ["sure"],
                ["c"],
                "choose",
                then_branch=helper.make_graph([inner], "then", [], [value]),
                else_branch=helper.make_graph([plain], "else", [], [value]),
            ),
        ]
    )
    return model


def words(tiny: TinyModel) -> onnx.ModelProto:
    model = tiny()
    model.graph.input.append(helper.make_tensor_value_info("caption", TensorProto.STRING, ["batch"]))
    return model


def of_143_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, which from now on runs on images of 11 by 13 alone."""
    model.graph.node.append(helper.make_node("Reshape", ["image", "of_143"], ["cut"], "cut"))
    model.graph.initializer.append(helper.make_tensor("of_143", TensorProto.INT64, [4], [0, 3, 11, 13]))
    model.graph.output.append(helper.make_tensor_value_info("cut", TensorProto.FLOAT, ["batch", 3, 11, 13]))
    return model


def ancient(_: TinyModel) -> onnx.ModelProto:
    """onnx converts no GRU of before opset 7."""
    shapes = {"x": [5, 1, 3], "w": [1, 6, 3], "r": [1, 6, 2], "y": [5, 1, 1, 2]}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], "cell", hidden_size=2)
    graph = helper.make_graph([node], "ancient", ports[:3], ports[3:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)


def pictures(*shape: int) -> Samples:
    return Samples(np.zeros(shape, np.float32))


REFUSALS: dict[str, tuple[type[DfqError], str, Attempt]] = {
    # the file
    "1 no such file": (
        ModelError,
        "FOLDER/gone.onnx: no such file; give the path of an .onnx file",
        lambda tiny, folder: drawn(folder / "gone.onnx"),
    ),
    "2 not a model": (
        ModelError,
        "FOLDER/net.onnx: not an ONNX model but a damaged archive; copy or download it again",
        lambda tiny, folder: drawn(written(b"PK\x03\x04 a zip", folder)),
    ),
    "2 cut short": (
        ModelError,
        "FOLDER/net.onnx: not an ONNX model, or cut short (*); export it again",
        lambda tiny, folder: drawn(written(tiny().SerializeToString()[:-700], folder)),
    ),
    "2 a pointer to the model": (
        ModelError,
        "FOLDER/net.onnx: a Git LFS pointer, not the model itself; fetch it with git lfs pull",
        lambda tiny, folder: drawn(written(b"version https://git-lfs.github.com/spec/v1\noid sha256:4a\n", folder)),
    ),
    "3 external data is missing": (
        ModelError,
        "FOLDER/net.onnx: its external data cannot be read (*); keep the data file beside the model",
        lambda tiny, folder: drawn(without_data(tiny, folder)),
    ),
    # what is in it
    "4 quantized already": (
        ModelError,
        "the model: already quantized (DynamicQuantizeLinear 'round'); give the float model that it was made from",
        lambda tiny, _: drawn(quantized(tiny)),
    ),
    "5 weights that are no numbers": (
        ModelError,
        "the model: weight 'fc.weight' of Gemm 'fc' holds NaN or infinity; training has diverged, or the file is "
        "damaged",
        lambda tiny, _: drawn(diverged(tiny)),
    ),
    "6 operators that are unknown, all of them": (
        UnsupportedOperators,
        "the twin does not support 3 node(s) of this graph: com.microsoft::Inverse-1 (first), com.microsoft::Rfft-1 "
        "(second), com.microsoft::Inverse-1 (third); a method that needs no gradient (--synth procedural) or real "
        "images (--data) do without it",
        lambda tiny, _: synthesize(odd(tiny), count=2),
    ),
    "6 an input that no number feeds": (
        ModelError,
        "the model: input 'caption' is STRING; only numbers can be fed: cut the model behind it",
        lambda tiny, _: drawn(words(tiny)),
    ),
    "6 an opset that has no way up": (
        ModelError,
        "the model: opset 6 cannot be converted to 13 (No Adapter From Version 6 for GRU); export it with opset 13 or "
        "newer",
        lambda tiny, _: drawn(ancient(tiny)),
    ),
    # its shapes
    "7 a size that is open": (
        ModelError,
        "input 'image': shape (batch, 3, side, side) is open beyond the batch, and the model runs at none of the sizes "
        "that were tried (*); state one, e.g. --input-shape image:1,3,224,224",
        lambda tiny, _: drawn(of_143_pixels(tiny(size="side"))),
    ),
    "8 a shape for an input that is not there": (
        ModelError,
        "the model: no input 'picture' to give a shape to; its inputs: image",
        lambda tiny, _: drawn(tiny(), input_shapes={"picture": (1, 3, 8, 8)}),
    ),
    "8 a shape of another rank": (
        ModelError,
        "the model: input 'image' has shape (batch, 3, 8, 8), and (3, 8, 8) has another number of axes",
        lambda tiny, _: drawn(tiny(), input_shapes={"image": (3, 8, 8)}),
    ),
    "8 a shape that contradicts": (
        ModelError,
        "the model: input 'image' has shape (batch, 3, 8, 8), which (1, 3, 9, 9) contradicts; export it again",
        lambda tiny, _: drawn(tiny(), input_shapes={"image": (1, 3, 9, 9)}),
    ),
    # what it is fed
    "9 samples of another size": (
        SamplesError,
        "samples of shape (3, 9, 9) do not fit the model's input (3, 8, 8)",
        lambda tiny, _: calibrate(tiny(), data=pictures(8, 3, 9, 9)),
    ),
    "9 a teacher of another size": (
        ModelError,
        "--teacher does not fit the model: its input shape is (3, 16, 16), the model's (3, 8, 8); *",
        lambda tiny, _: synthesize(tiny(normalized=False), teachers=[tiny(size=16)], count=4),
    ),
    "9 a range for an input that is not there": (
        ModelError,
        "no input 'sound' to give a range to; the model's inputs: image",
        lambda tiny, _: drawn(tiny(), input_ranges={"sound": (0, 1)}),
    ),
    # what is asked for
    "10 a target that nobody knows": (
        TargetError,
        "unknown target 'abacus'; installed: *cpu*",
        lambda tiny, _: drawn(tiny(), target="abacus"),
    ),
    "10 a target that gains nothing": (
        TargetError,
        "target 'coreml' is refused: * has no QuantizeLinear or DequantizeLinear, *; convert the float model with "
        "coremltools and quantize its weights there",
        lambda tiny, _: drawn(tiny(), target="coreml"),
    ),
    "10 a method that is not installed": (
        PluginError,
        "no synthesizer 'magic'; installed: *procedural*",
        lambda tiny, _: calibrate(tiny(), synth="magic"),
    ),
}
"""What is done -> the error, all of its words (``*`` stands for some), and how it is done."""


@pytest.mark.parametrize("case", REFUSALS)
def test_it_is_refused_by_these_words(tiny: TinyModel, tmp_path: Path, case: str) -> None:
    kind, wanted, attempt = REFUSALS[case]
    with pytest.raises(DfqError) as caught:
        attempt(tiny, tmp_path)
    assert type(caught.value) is kind
    said = str(caught.value).replace(str(tmp_path), "FOLDER")
    assert "\n" not in said
    parts = wanted.split("*")
    assert said.startswith(parts[0])
    assert said.endswith(parts[-1])
    for part in parts[1:-1]:
        assert part in said


def test_there_are_ten() -> None:
    assert {int(case.split()[0]) for case in REFUSALS} == set(range(1, 11))
