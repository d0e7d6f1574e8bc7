"""Inputs that once failed are refused; the fuzzer finds what fails; a short run of it finds nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from random import Random

import onnx
import pytest
from google.protobuf.message import DecodeError

from benchmarks.fuzzing import corpus
from benchmarks.fuzzing.messages import mutated_model
from benchmarks.fuzzing.readers import TARGETS, Reader, run_twin
from benchmarks.fuzzing.supervise import Limits, run_reader
from benchmarks.fuzzing.text import mutated_json
from dfq_deploy import Samples, check, export
from dfq_deploy.errors import DfqError, ModelError, SamplesError, printable
from dfq_deploy.evaluation.detection.annotations import read_annotations
from dfq_deploy.runtime.tensorrt.cache import CalibrationCache
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.vocabulary import read_vocabulary
from dfq_deploy.validation.bounds import Bounds, use_bounds

KEPT = Path(__file__).parent / "corpus"

ROOT = Path(__file__).resolve().parents[2]


def _arrays(path: Path) -> None:
    with pytest.raises(DfqError):
        Samples.load(path)
    read_samples(path, "imagenet", (3, 8, 8), classes=4)


def _image(path: Path) -> None:
    read_samples(path.parent, "imagenet", (3, 8, 8))


def _archive(path: Path) -> None:
    read_samples(path, "imagenet", (3, 8, 8), classes=10)


def _encodings(path: Path) -> None:
    export(ROOT / "examples/digits/digits.onnx", to="qdq", encodings=path, output=path.parent / "out.onnx")


def _annotations(path: Path) -> None:
    images = path.parent / "images.zip"
    images.write_bytes(corpus.image_archives()[0])
    read_annotations(path, images)


READ: dict[str, Callable[[Path], object]] = {
    "annotations": _annotations,
    "arrays": _arrays,
    "caches": CalibrationCache.read,
    "encodings": _encodings,
    "image_archives": _archive,
    "images": _image,
    "vocabularies": read_vocabulary,
}


@pytest.mark.parametrize("file", sorted(KEPT.glob("[!m]*/*")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_what_once_failed_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / f"input{file.suffix}"
    path.write_bytes(file.read_bytes())
    with use_bounds(Bounds(memory=2**29)), pytest.raises(DfqError) as caught:
        READ[file.parent.name](path)
    assert printable(str(caught.value)) == str(caught.value)


@pytest.mark.parametrize("file", sorted(KEPT.glob("models/*")), ids=lambda file: file.stem)
def test_models_that_once_failed_are_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the trial in a child process is part of the answer
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with use_bounds(Bounds(memory=2**29, seconds=5)), pytest.raises(ModelError):
        run_twin(file, Random(0))


@pytest.mark.parametrize("target", TARGETS)
def test_a_scalar_weight_with_scales_for_channels_is_checked(target: str) -> None:
    assert check(KEPT / "mended/scalar_weight.onnx", target).target == target


def test_mutants_are_drawn_from_the_seed() -> None:
    for mutated, seed in ((mutated_model, corpus.models(None)[0]), (mutated_json, corpus.coco()[0])):
        mutants = [mutated(seed, Random(index)) for index in range(40)]
        assert mutants == [mutated(seed, Random(index)) for index in range(40)]
        assert len(set(mutants)) > 30
    parsed = 0
    for mutant in (mutated_model(corpus.models(None)[1], Random(index)) for index in range(40)):
        try:
            onnx.load_model_from_string(mutant)
            parsed += 1
        except DecodeError:
            continue
    assert parsed > 20  # most are models, with something wrong in them


def _misbehave(path: Path, rng: Random) -> None:
    match path.read_bytes():
        case b"\x00":
            return
        case b"\x01":
            raise SamplesError("refused")
        case b"\x02":
            raise KeyError("wrong")
        case b"\x03":
            os.abort()
        case b"\x04":
            time.sleep(600)
        case b"\x05":
            bytearray(2**40)
        case b"\x06":
            bytearray(os.urandom(2**20) * 200)


@pytest.mark.skipif(sys.platform != "linux", reason="sizes are read from /proc")
def test_each_kind_of_failure_is_counted(tmp_path: Path) -> None:
    reader = Reader("", 1, [b""], lambda seed, rng: b"", ".bin", _misbehave)
    numbered = type("Numbered", (Reader,), {"input": lambda self, seed, index: (bytes([index]), Random(0))})
    reader = numbered(*(getattr(reader, field.name) for field in fields(Reader)))
    limits = Limits(seconds=8, memory=2**26)
    tally = run_reader(reader, 0, range(7), limits, tmp_path, time.monotonic() + 60)
    kinds = {index: kind for kind, index in tally.first.items()}
    assert tally.counts["ok"] == tally.counts["refused"] == 1
    assert kinds[2] == "wrong: KeyError at test_fuzz._misbehave"
    assert kinds[3].startswith("abort: SIGABRT at")
    assert kinds[4].startswith("hang at")
    assert kinds[5] == "memory"
    assert kinds[6] == "memory: beyond the budget"


def test_a_short_run_finds_nothing() -> None:
    """The same three thousand inputs in each run, of all readers."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--count", "3000", "--seed", "5"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    head, _, *rows = run.stdout.splitlines()
    assert head == "| reader | inputs | read | refused | wrong | abort | hang | memory | s |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert len(cells) == 16
    assert 2900 < sum(int(inputs) for _, inputs, *_ in cells) < 3100
    assert {faults for *_, wrong, abort, hang, memory, _ in cells for faults in (wrong, abort, hang, memory)} == {"0"}
