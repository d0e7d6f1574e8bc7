"""Fine-tuning from end to end on the digits: better than calibration, interrupted and resumed, on several processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import Recipe, Samples, calibrate, evaluate, finetune
from dfq_deploy.cli.main import main
from dfq_deploy.errors import SamplesError
from dfq_deploy.files.sealed import read_state
from dfq_deploy.progress import Progress
from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.synthesis.methods.gdfq import Gdfq
from examples.digits import data

PLAIN = Augmentation(flip=False, shift=0, soften=0.0, blend=0.0, cut=0.0)
SHORT = Recipe(steps=6, batch=32, augmentation=Augmentation(flip=False, shift=1))
START = ("bias",)
"""A quick start, where the training itself is not what is looked at."""


class Interrupting(Progress):
    """Ctrl-C after so many steps of training."""

    def __init__(self, after: int) -> None:
        self.left, self.training = after, False

    def start(self, task: str, total: int) -> None:
        self.training = task == "finetune"

    def advance(self, steps: int = 1, **figures: float) -> None:
        if self.training:
            self.left -= steps
            if self.left < 0:
                raise KeyboardInterrupt


def top1(model: Path, quantized: Path | None, truth: Samples) -> float:
    assert quantized is not None
    scores = evaluate(model, quantized, truth).comparison.scores
    assert scores is not None
    assert scores.quantized_top1 is not None
    return scores.quantized_top1


def test_training_beats_calibration(digits_bn: Path, digits: Samples, held_out: Samples, tmp_path: Path) -> None:
    # Two bits in every layer: ranges alone leave one digit of five, training nine of ten.
    plain = calibrate(
        digits_bn, data=digits, bits="w2a2", refine=(), preprocess=data.PREPROCESS, output=tmp_path / "ptq"
    )
    recipe = Recipe(
        steps=100, batch=32, step_rate=3e-3, augmentation=Augmentation(flip=False, shift=1, soften=0, blend=0, cut=0)
    )
    learned = finetune(
        digits_bn, data=digits, bits="w2a2", preprocess=data.PREPROCESS, recipe=recipe, output=tmp_path / "qat"
    )
    before, after = (top1(digits_bn, result.model_path, held_out) for result in (plain, learned))
    assert after > before + 50
    report = json.loads((tmp_path / "qat/report.json").read_text())
    assert report["calibration"]["refine"] == ["reconstruct", "finetune"]
    assert report["calibration"]["steps"] == 100
    assert sorted(path.name for path in (tmp_path / "qat").iterdir()) == sorted(path.name for path in plain.files)


def test_an_interrupted_training_goes_on_bit_for_bit(digits_bn: Path, digits: Samples, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    digits = replace(digits, notes=("a note on the samples",), figures={"diversity": 0.25})

    def train(folder: Path, *, resume: bool = False, progress: Progress | None = None) -> None:
        given = {} if progress is None else {"progress": progress}
        finetune(digits_bn, data=digits, bits="w4a4", recipe=SHORT, refine=START, output=folder, resume=resume, **given)  # type: ignore[arg-type]

    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(broken, progress=Interrupting(3))
    left = {path.name for path in broken.iterdir()}
    assert left == {"checkpoint.json", "checkpoint-samples.npz", "checkpoint.pt"}
    assert read_state(broken / "checkpoint.pt")["step"] == 4
    with pytest.raises(SamplesError, match=r"the checkpoint in .* has bits=w4a4, and this call has bits=w3a3"):
        finetune(digits_bn, data=digits, bits="w3a3", recipe=SHORT, output=broken, resume=True)
    train(broken, resume=True)
    assert {path.name for path in broken.iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("model.qdq.onnx", "encodings.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    expected, found = (json.loads((folder / "report.json").read_text()) for folder in (whole, broken))
    assert found["warnings"] == expected["warnings"]
    assert "a note on the samples" in found["warnings"]
    assert found["samples"] == expected["samples"]
    assert found["samples"]["figures"] == {"diversity": 0.25}


def test_a_generator_is_drawn_from_and_adapts(digits_bn: Path, tmp_path: Path) -> None:
    method = Gdfq(iterations=4, warmup=2, batch=32, channels=8)
    recipe = Recipe(steps=4, batch=32, fresh=0.5)
    given = {
        "synth": method,
        "bits": "w4a4",
        "count": 64,
        "recipe": recipe,
        "refine": START,
        "preprocess": data.PREPROCESS,
    }
    results = []
    for name in ("whole", "broken"):
        if name == "broken":
            with pytest.raises(KeyboardInterrupt):
                finetune(digits_bn, output=tmp_path / name, progress=Interrupting(1), **given)  # type: ignore[arg-type]
        finetune(digits_bn, output=tmp_path / name, resume=name == "broken", **given)  # type: ignore[arg-type]
        results.append((tmp_path / name / "encodings.json").read_text())
    assert results[0] == results[1]


PROGRAM = """
import sys
from pathlib import Path
import torch
from dfq_deploy import Recipe, Samples, finetune
from dfq_deploy.samples.augmentation import Augmentation
torch.set_num_threads(1)
plain = Augmentation(flip=False, shift=0, soften=0.0, blend=0.0, cut=0.0)
finetune(sys.argv[1], data=Samples.load(Path(sys.argv[2])), bits="w8a8", output=Path(sys.argv[3]),
         recipe=Recipe(steps=2, batch=16, augmentation=plain, weight_rate=0.001, step_rate=20.0, optimizer="sgd"))
"""


def test_two_processes_learn_what_one_learns_of_both_batches(digits_bn: Path, digits: Samples, tmp_path: Path) -> None:
    program, samples = tmp_path / "program.py", tmp_path / "samples.npz"
    program.write_text(PROGRAM)
    digits.part(slice(0, 64)).save(samples)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    called = [*torchrun, str(program), str(digits_bn), str(samples), str(tmp_path / "two")]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    recipe = Recipe(steps=2, batch=32, augmentation=PLAIN, weight_rate=0.001, step_rate=20.0, optimizer="sgd")
    one = finetune(digits_bn, data=Samples.load(samples), bits="w8a8", recipe=recipe)
    two = json.loads((tmp_path / "two/encodings.json").read_text())["tensors"]
    start = calibrate(digits_bn, data=Samples.load(samples), refine=())
    moved = 0.0
    for name, encoding in one.encodings.items():
        np.testing.assert_allclose(np.asarray(two[name]["scale"]), encoding.scale, rtol=1e-4)
        moved = max(moved, float(np.abs(encoding.scale / start.encodings[name].scale - 1).max()))
    assert moved > 1e-3  # or nothing was learned, and the comparison says nothing


def run(*arguments: str) -> tuple[int, str, str]:
    from click.testing import CliRunner

    result = CliRunner().invoke(main, ["finetune", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command(digits_bn: Path, digits: Samples, tmp_path: Path) -> None:
    digits.save(tmp_path / "samples.npz")
    arguments = [str(digits_bn), "--data", str(tmp_path / "samples.npz"), "--bits", "w4a4", "--samples", "64"]
    status, printed, _ = run(*arguments, "--epochs", "1", "--json", "-o", str(tmp_path / "out"))
    document = json.loads(printed)
    assert status == (3 if document["verdict"]["status"] == "BAD" else 0)  # one step at 4 bits may not be enough
    assert document["calibration"]["steps"] == 1
    assert document["calibration"]["bits"] == "w4a4"
    assert str(tmp_path / "out/model.qdq.onnx") in document["paths"]
    status, _, said = run(*arguments, "--resume", "-o", str(tmp_path / "out"))
    assert status == 1
    assert said == f"error: nothing to resume in {tmp_path}/out: it has no checkpoint; omit --resume\n"


def test_a_tolerance_of_0_runs_to_the_end(tiny: Callable[..., onnx.ModelProto], tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "net.onnx")
    arguments = [str(tmp_path / "net.onnx"), "--synth", "zeroq", "--samples", "16", "--bits", "w8a8", "--epochs", "1"]
    options = ["--iterations", "30", "--refine", "none", "--tolerance"]
    status, printed, said = run(*arguments, *options, "0", "--json", "-o", str(tmp_path / "out"))
    document = json.loads(printed)
    assert document["verdict"]["status"] in ("OK", "CHECK", "BAD"), said
    assert status == (3 if document["verdict"]["status"] == "BAD" else 0), said
    assert not [warning for warning in document["warnings"] if "stopped after" in warning]
    status, _, said = run(*arguments, *options, "0.1", "-o", str(tmp_path / "out"))
    assert status == 2
    assert "error: --iterations and --tolerance cannot be combined; give one of them" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bits", "4"], "'4' is one number; write both, w4a8"),
        (["--bits", "w1a4"], "weights of 1 bits are not supported; choose 2 to 8"),
        (["--bits", "w4a4", "--edge-bits", "9"], "edge layers of 9 bits are not supported"),
        ([], "error: --bits is missing"),
        (["--bits", "w4a4", "--data", "x.npz"], "and not both"),
    ],
)
def test_wrong_usage_says_what_is_right(digits_bn: Path, arguments: list[str], words: str) -> None:
    status, _, said = run(str(digits_bn), "--synth", "procedural", *arguments)
    assert status == 2
    assert words in said
