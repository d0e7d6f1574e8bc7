"""The sound files that inputs are made of."""

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from dfq_deploy import calibrate
from dfq_deploy.runtime.tensorrt.cache import CalibrationCache

__all__ = [
    "arrays",
    "cached_ranges",
    "coco",
    "image_archives",
    "images",
    "is_quantized",
    "make_quantized",
    "models",
    "overrides",
    "quantized",
    "vocabularies",
]

TEXTS: Mapping[str, tuple[str, str, str, Mapping[str, tuple[int, ...]]]] = {
    "dense": ("float[n,6] x", "float[n,4] y", "m = MatMul(x, w) y = Add(m, b)", {"w": (6, 4), "b": (4,)}),
    "convolution": (
        "float[n,3,8,8] x",
        "float[n,4] y",
        "c = Conv<pads=[1,1,1,1]>(x, w) s, t = Split<axis=1, num_outputs=2>(c) r = Clip(s, lo, hi) "
        "k = Concat<axis=1>(r, t) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(k) g = GlobalAveragePool(p) "
        "f = Flatten(g) y = Gemm<transB=1>(f, v)",
        {"w": (4, 3, 3, 3), "v": (4, 4), "lo": (), "hi": ()},
    ),
    "attention": (
        "float[n,5,8] x",
        "float[n,5,8] y",
        "a = LayerNormalization<axis=-1>(x, s, b) q = MatMul(a, wq) k = MatMul(a, wk) t = Transpose<perm=[0,2,1]>(k) "
        "l = MatMul(q, t) d = Div(l, c) p = Softmax<axis=-1>(d) v = MatMul(a, wv) o = MatMul(p, v) y = Add(o, x)",
        {"s": (8,), "b": (8,), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "c": ()},
    ),
    "shapes": (
        "float[n,4,6,6] x",
        "float[n,4,12,12] y",
        "s = Shape(x) z = Slice(s, i0, i1) k = Concat<axis=0>(z, i3) e = Reshape(x, k) "
        'r = Resize<mode="nearest">(x, , f) u = Unsqueeze(e, i0) m = ReduceMean<keepdims=1>(u) q = Squeeze(m, i0) '
        'h = HardSwish(r) p = Pad<mode="constant">(h, pads) g = Gather<axis=1>(p, idx) y = Mul(g, h)',
        {"f": (4,), "i0": (1,), "i1": (1,), "i3": (1,), "pads": (8,), "idx": (4,)},
    ),
    "recurrent": (
        "float[5,n,4] x",
        "float[5,1,n,3] y",
        "y, h, c = LSTM<hidden_size=3>(x, w, r, b)",
        {"w": (1, 12, 4), "r": (1, 12, 3), "b": (1, 24)},
    ),
}
"""Inputs, outputs, nodes and constants of small models; integers are those of INTEGERS."""

INTEGERS: Mapping[str, list[int]] = {"i0": [0], "i1": [1], "i3": [144], "pads": [0] * 8, "idx": [0, 1, 2, 3]}

FLOATS: Mapping[str, list[float] | float] = {"f": [1.0, 1.0, 2.0, 2.0], "lo": 0.0, "hi": 6.0, "c": 2.8}


QUANTIZED = ("dense", "convolution", "attention")


def _model(name: str) -> bytes:
    inputs, outputs, nodes, constants = TEXTS[name]
    rng = np.random.default_rng(0)
    text = f'<ir_version: 10, opset_import: ["" : 18]> {name} ({inputs}) => ({outputs}) {{ {nodes} }}'
    model = onnx.parser.parse_model(text)
    for constant, shape in constants.items():
        if constant in INTEGERS:
            array: Any = np.array(INTEGERS[constant], np.int64)
        elif constant in FLOATS:
            array = np.array(FLOATS[constant], np.float32)
        else:
            array = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, constant))
    return bytes(model.SerializeToString())


def _control_flow() -> bytes:
    """An If, a Loop and a function."""
    branches = [
        helper.make_graph([helper.make_node(kind, ["x"], ["r"])], kind, [], [_float("r", None)])
        for kind in ("Relu", "Neg")
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["still"]),
            helper.make_node("Mul", ["state", "half"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            _float("state", None),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), _float("next", None)],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "half"], ["positive"]),
        helper.make_node("If", ["positive"], ["b"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Loop", ["trips", "", "b"], ["l"], body=body),
        helper.make_node("twice", ["l"], ["t"], domain="local"),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "control",
        [_float("x", ["n", 4])],
        [_float("y", ["n", 2])],
        [
            numpy_helper.from_array(np.array(3), "trips"),
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
            numpy_helper.from_array(np.ones((4, 2), np.float32), "w"),
        ],
    )
    function = onnx.parser.parse_function(
        '<domain: "local", opset_import: ["" : 18]> twice (a) => (c) { c = Add(a, a) }'
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[function])
    return bytes(model.SerializeToString())


def _float(name: str, shape: list[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def models(more: Path | None, largest: int = 40_000) -> list[bytes]:
    """Small models of many operators, and those of at most ``largest`` bytes in the folder ``more``."""
    own = [*(_model(name) for name in TEXTS), _control_flow()]
    found = [] if more is None else sorted(more.rglob("*.onnx"))
    return own + [file.read_bytes() for file in found if file.stat().st_size <= largest]


def make_quantized(folder: Path) -> None:
    """Write float model, quantized model and encodings of those small models that can be quantized."""
    for name in QUANTIZED:
        source = folder / f"{name}.onnx"
        source.write_bytes(_model(name))
        calibrate(source, synth="noise", count=8, refine=[], floor="none", output=folder / name)


def is_quantized(folder: Path) -> bool:
    """Return whether :func:`make_quantized` has written there."""
    return all((folder / name / "encodings.json").is_file() for name in QUANTIZED)


def quantized(folder: Path) -> list[tuple[bytes, bytes, bytes]]:
    """Float model, quantized model and encodings, as :func:`make_quantized` wrote them."""
    return [
        (
            (folder / f"{name}.onnx").read_bytes(),
            (folder / name / "model.qdq.onnx").read_bytes(),
            (folder / name / "encodings.json").read_bytes(),
        )
        for name in QUANTIZED
    ]


def cached_ranges() -> list[bytes]:
    """TensorRT's calibration caches."""
    return [CalibrationCache({"x": 0.0078125, "conv: 1": 0.5, "y": 2.0**-30}).to_bytes()]


def arrays() -> list[bytes]:
    """Samples files."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    values = rng.normal(0, 1, (6, 3, 8, 8)).astype(np.float32)
    sets: list[dict[str, Any]] = [
        {"images": pixels, "labels": np.arange(6) % 4},
        {"images": values, "labels": rng.random((6, 4)).astype(np.float32), "input:mask": np.ones((6, 5), np.int64)},
        {"images": values, "method": "noise", "format_version": 1, "mean": np.zeros(3), "std": np.ones(3)},
    ]
    made = []
    for members in sets:
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, **members)
            made.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, values)
    return [*made, stream.getvalue()]


def images() -> list[bytes]:
    """A picture in every format and mode that is read."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (9, 11)).astype(np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (9, 11, 3)).astype(np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (9, 11)).astype(np.uint16))
    made = []
    forms: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((colour, kind, {}) for kind in ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")),
        *((grey, kind, {}) for kind in ("PNG", "PPM", "JPEG")),
        *((deep, kind, {}) for kind in ("PNG", "TIFF")),
        *((colour, kind, {"save_all": True, "append_images": [colour] * 2}) for kind in ("GIF", "TIFF", "PNG", "WEBP")),
        (colour, "TIFF", {"compression": "tiff_deflate"}),
        (colour.convert("P"), "PNG", {}),
        (colour.convert("RGBA"), "PNG", {}),
        (grey.convert("1"), "PNG", {}),
    ]
    for image, kind, options in forms:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        made.append(stream.getvalue())
    return made


def image_archives() -> list[bytes]:
    """Zips of images, with classes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(images()[:5]):
            archive.writestr(f"{index % 2}/{index}.png", content)
        archive.writestr("classes.txt", "cat\ndog\n")
    return [stream.getvalue()]


def coco() -> list[bytes]:
    """Annotations of objects."""
    boxes = [{"image_id": one, "category_id": 3, "bbox": [1, 1, 4, 4], "iscrowd": one % 2} for one in range(5)]
    images = [{"id": one, "file_name": f"{one}.png"} for one in range(5)]
    return [json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 3}]}).encode()]


def overrides() -> list[bytes]:
    """Overrides files."""
    return [
        b'[[tensor]]\nmatch = "relu_*"\nrange = [0.0, 6.0]\nbits = 16\n\n[[node]]\nmatch = "conv"\nfloat = true\n'
        b'\n[[node]]\nmatch = "fc*"\ntype = "s8"\nsymmetric = true\n'
    ]


def vocabularies() -> list[bytes]:
    """Files of the library tokenizers."""
    words = {word: index for index, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[unused1]", "a", "b", "##c"))}
    added = [{"content": "[CLS]", "id": 1}, {"content": "[NEW]", "id": 7}]
    return [
        json.dumps({"model": {"vocab": words}, "added_tokens": added}).encode(),
        json.dumps({"model": {"vocab": [[word, -1.5] for word in words]}, "added_tokens": []}).encode(),
    ]


if __name__ == "__main__":
    make_quantized(Path(sys.argv[1]))
