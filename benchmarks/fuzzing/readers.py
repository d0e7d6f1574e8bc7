"""What reads the inputs: each reader with its corpus and its mutations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from benchmarks.fuzzing import corpus
from benchmarks.fuzzing.archives import mutated_array, mutated_image, mutated_image_archive, mutated_npz
from benchmarks.fuzzing.messages import mutated_model
from benchmarks.fuzzing.text import mutated_json, mutated_lines
from dfq_deploy import Samples, calibrate, check, evaluate, export, inspect, load
from dfq_deploy.evaluation.detection.annotations import read_annotations
from dfq_deploy.files.encodings_file import read_encodings
from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.reading import blames_the_file
from dfq_deploy.quantization.overrides_file import read_overrides
from dfq_deploy.runtime.tensorrt.cache import CalibrationCache
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.npz import stored_shapes
from dfq_deploy.samples.vocabulary import read_vocabulary
from dfq_deploy.twin import Twin

__all__ = ["Reader", "readers", "run_twin"]

TARGETS = ("cpu", "tensorrt", "qnn", "litert", "openvino")

Mutation = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Reader:
    """One reader of files.

    Args:
        name: in the table.
        share: how many of the inputs it gets, in proportion to the other readers; a model takes 100 times as long as
            the other files.
        seeds: sound files.
        mutated: makes an input of a seed.
        ending: of the file's name.
        read: reads the file; the generator draws what else the call depends on.
    """

    name: str
    share: float
    seeds: Sequence[bytes]
    mutated: Mutation
    ending: str
    read: Callable[[Path, Random], object]

    def input(self, seed: int, index: int) -> tuple[bytes, Random]:
        """The bytes of an input, and the generator that its call draws from; the same for the same arguments."""
        rng = Random(f"{seed} {self.name} {index}")
        return self.mutated(rng.choice(self.seeds), rng), rng


def readers(folder: Path, more: Path | None) -> tuple[Reader, ...]:
    """All readers that have seeds.

    Args:
        folder: a place for the files that go with an input, where the quantized models are, if there are any.
        more: a folder of further small models.
    """
    made = corpus.quantized(folder) if corpus.is_quantized(folder) else []
    models, quantized = corpus.models(more), [pair[1] for pair in made]
    floats = []
    for index, (source, _, encodings) in enumerate(made):
        floats.append(folder / f"float-{index}.onnx")
        floats[-1].write_bytes(source)
        (folder / f"float-{index}.json").write_bytes(encodings)
    images = folder / "pictures.zip"
    images.write_bytes(corpus.image_archives()[0])
    of_encodings = [pair[2] for pair in made]
    listed = (
        Reader("encodings", 30, of_encodings, mutated_json, ".json", lambda path, rng: read_encodings(path)),
        Reader("calibration cache", 30, corpus.cached_ranges(), mutated_lines, ".cache", _cache),
        Reader("arrays (npz, npy)", 30, corpus.arrays(), _mutated_arrays, ".npz", _arrays),
        Reader("images", 30, corpus.images(), mutated_image, ".png", _image),
        Reader("image archives", 20, corpus.image_archives(), mutated_image_archive, ".zip", _archive),
        Reader(
            "annotations", 10, corpus.coco(), mutated_json, ".json", lambda path, rng: read_annotations(path, images)
        ),
        Reader("overrides", 10, corpus.overrides(), mutated_lines, ".toml", lambda path, rng: read_overrides(path)),
        Reader("vocabulary", 10, corpus.vocabularies(), mutated_json, ".json", lambda path, rng: read_vocabulary(path)),
        Reader("load", 4, models, mutated_model, ".onnx", lambda path, rng: load(path)),
        Reader("twin", 2, models, mutated_model, ".onnx", run_twin),
        Reader("inspect", 0.4, models, mutated_model, ".onnx", _inspect),
        Reader("check", 1, quantized, mutated_model, ".onnx", lambda path, rng: check(path, rng.choice(TARGETS))),
        Reader("export", 0.3, quantized, mutated_model, ".onnx", _export),
        Reader("evaluate", 0.6, quantized, mutated_model, ".onnx", _evaluate(floats)),
        Reader("calibrate", 0.1, models, mutated_model, ".onnx", _calibrate),
        Reader("export with encodings", 0.6, of_encodings, mutated_json, ".json", _export_encodings(floats)),
    )
    return tuple(reader for reader in listed if reader.seeds)


@blames_the_file
def run_twin(path: Path, rng: Random) -> None:
    """Run the twin once, within what guards every step of the pipeline."""
    model = load(path)
    twin = Twin.from_model(model)
    feeds = []
    for value in input_values(model):
        dims = [dim if isinstance(dim, int) and dim > 0 else 1 for dim in value.shape or ()]
        feeds.append(torch.zeros(dims, dtype=_torch_type(value.dtype)))
    with torch.no_grad():
        twin(*feeds)


def _torch_type(dtype: ir.DataType | None) -> torch.dtype:
    return torch.from_numpy(np.zeros(0, ir.DataType.FLOAT.numpy() if dtype is None else dtype.numpy())).dtype


def _inspect(path: Path, rng: Random) -> None:
    inspect(path, target=rng.choice(TARGETS)).to_json()


def _export(path: Path, rng: Random) -> None:
    kind = rng.choice(("qdq", "litert", "ort", "tensorrt", "qnn"))
    export(path, to=kind, integer_io=rng.random() < 0.2, output=path.parent / "exported.bin")


def _evaluate(floats: Sequence[Path]) -> Callable[[Path, Random], object]:
    return lambda path, rng: evaluate(rng.choice(floats), path, count=8)


def _calibrate(path: Path, rng: Random) -> None:
    synth = rng.choice(("noise", "procedural"))
    calibrate(path, synth=synth, count=8, floor="none", target=rng.choice(TARGETS), output=path.parent / "calibrated")


def _export_encodings(floats: Sequence[Path]) -> Callable[[Path, Random], object]:
    return lambda path, rng: export(rng.choice(floats), to="qdq", encodings=path, output=path.parent / "exported.onnx")


def _cache(path: Path, rng: Random) -> None:
    cache = CalibrationCache.read(path)
    for name in cache.scales:
        cache.range_of(name)


def _mutated_arrays(data: bytes, rng: Random) -> bytes:
    return (mutated_npz if data[:2] == b"PK" else mutated_array)(data, rng)


def _arrays(path: Path, rng: Random) -> None:
    stored_shapes(path)
    if rng.random() < 0.3:
        Samples.load(path)
    else:
        read_samples(path, "imagenet", (3, 8, 8), rng.choice((None, 4)), classes=4)


def _image(path: Path, rng: Random) -> None:
    read_samples(path.parent, "imagenet", rng.choice(((3, 8, 8), (1, 8, 8))))


def _archive(path: Path, rng: Random) -> Any:
    return read_samples(path, "imagenet", (3, 8, 8), rng.choice((None, 3)), classes=rng.choice((2, 10)))
