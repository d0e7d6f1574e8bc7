"""The command line as a user meets it: words, exit codes, files."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper
from PIL import Image

from dfq_deploy.cli.main import main
from dfq_deploy.pipeline import synthesize
from dfq_deploy.samples.samples import Samples

Model = Callable[..., onnx.ModelProto]

PATIENCE = 300.0
"""Seconds that a child may take on a machine with much other work; it takes 3 on an idle one."""

HEAVY = {"numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "rich", "PIL"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(status: int, words: str, *arguments: object) -> None:
    """The command ends with ``status`` and says ``words`` in the only line."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if not re.match(r"[a-z ]+: done in ", line)]
    assert line.startswith(("error: ", "interrupted: "))


@pytest.fixture
def net(tmp_path: Path, tiny: Model) -> Path:
    """A tiny network on disk."""
    onnx.save(tiny(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, empty but for the network."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, dfq_deploy.cli; sys.exit(', '.join({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_help_answers_at_once() -> None:
    command = [sys.executable, "-c", "from dfq_deploy.cli import main; main()", "--help"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert re.findall(r"^  ([a-z]+) ", done.stdout.partition("Commands:")[2], re.MULTILINE) == [
        "calibrate", "check", "evaluate", "export", "finetune", "init", "inspect", "methods", "run", "synthesize",
        "targets",
    ]  # fmt: skip
    # The processor's time, which other work on the machine does not stretch as it does the clock's. Measured: 0.06 s.
    assert min(seconds) < 0.3


def test_inspect_on_one_screen(net: Path) -> None:
    result = run("inspect", net)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:11] == [
        "net.onnx  opset 17, written by unknown",
        "  input       image: float (batch, 3, 8, 8)",
        "  output      scores: float (batch, 4)",
        "  classes     4",
        "  parameters  214",
        "  operators   6, all supported by the twin: "
        "Conv 1, BatchNormalization 1, Relu 1, GlobalAveragePool 1, Flatten 1, Gemm 1",
        "  BatchNorm   1, all of which fold into weights",
        "  synthesis   adversarial, analytic, anchored, deepinversion, dfqf, gdfq, genie, hast, lis, noise, "
        "photographs,",
        "              procedural, psaq, qimera, zeroq",
        "  on cpu      2 of 2 layers in INT8",
        f"  size        {net.stat().st_size / 1e3:.1f} kB, about {lines[10].split('about ')[1]}",
    ]
    assert lines[11:] == ["", "  No problems found."]
    assert result.stderr == ""


def test_inspect_of_a_file_without_normalization_finds_no_problem(tmp_path: Path, tiny: Model) -> None:
    onnx.save(tiny(normalized=False), tmp_path / "folded.onnx")
    lines = run("inspect", tmp_path / "folded.onnx").stdout.splitlines()
    assert "  BatchNorm   none left in the graph" in lines
    assert any(line.startswith("note: no BatchNormalization is left") for line in lines)
    assert "  No problems found." in lines


def test_inspect_json_is_one_object(net: Path) -> None:
    document = json.loads(run("inspect", net, "--json").stdout)
    assert document["inputs"] == [{"name": "image", "dtype": "float", "shape": ["batch", 3, 8, 8]}]
    assert document["advice"] == []


def test_models_that_cannot_be_read(tmp_path: Path, net: Path) -> None:
    fails(1, f"{tmp_path / 'no.onnx'}: no such file; give the path of an .onnx file", "inspect", tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("this is a text file")
    fails(1, f"{tmp_path / 'text.onnx'}: not an ONNX model", "inspect", tmp_path / "text.onnx")
    (tmp_path / "short.onnx").write_bytes(net.read_bytes()[:-200])
    fails(1, f"{tmp_path / 'short.onnx'}: not an ONNX model, or cut short", "inspect", tmp_path / "short.onnx")


def test_weights_that_are_not_numbers(here: Path, tiny: Model) -> None:
    model = tiny()
    name = model.graph.initializer[0].name
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((6, 3, 3, 3), np.nan, np.float32), name))
    onnx.save(model, "nan.onnx")
    words = "nan.onnx: weight 'conv.weight' of Conv 'conv' holds NaN or infinity"
    fails(1, words, "calibrate", "nan.onnx", "--synth", "noise", "-o", "out")
    assert sorted(path.name for path in here.iterdir()) == ["nan.onnx"]


def test_json_says_the_error_too(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "no.onnx", "--json")
    assert result.exit_code == 1
    message = f"{tmp_path / 'no.onnx'}: no such file; give the path of an .onnx file"
    assert json.loads(result.stdout) == {"error": message, "kind": "ModelError"}
    assert result.stderr == f"error: {message}\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "no.onnx", "--debug")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2].startswith("dfq_deploy.errors.ModelError: ")
    assert lines[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--samples: '0' is not a whole number from 1 on", ["--synth", "noise", "--samples", "0"]),
        ("--option and --iterations are of one method: name it", ["--iterations", "5"]),
        ("give --synth NAME or --data PATH, and not both", ["--synth", "noise", "--data", "x.npz"]),
        ("--preprocess: 'imagnet' is unknown; did you mean imagenet?", ["--synth", "noise", "--preprocess", "imagnet"]),
        ("--mean and --std must be given together", ["--synth", "noise", "--mean", "0.5"]),
        ("'0.5;0.5' is not a list of numbers", ["--synth", "noise", "--mean", "0.5;0.5", "--std", "1"]),
        ("--mean and --std: preprocess: 2 mean(s) and 1 std(s)", ["--synth", "noise", "--mean", "0,0", "--std", "1"]),
        (
            "--preprocess and --mean/--std cannot be combined",
            ["--synth", "noise", "--preprocess", "raw", "--mean", "0", "--std", "1"],
        ),
        (
            "the method 'noise' has no option 'depth'; it has: distribution, lowpass",
            ["--synth", "noise", "--option", "depth=1"],
        ),
        ("the method 'noise' has no option 'iterations'", ["--synth", "noise", "--iterations", "5"]),
        ("--option 'flip' is not of the form KEY=VALUE", ["--synth", "deepinversion", "--option", "flip"]),
        ("--option flip: 'maybe' is not true or false", ["--synth", "deepinversion", "--option", "flip=maybe"]),
        ("--option l2: 'low' is not a number", ["--synth", "deepinversion", "--option", "l2=low"]),
        ("--colour", ["--synth", "noise", "--colour"]),
        ("unknown target 'abacus'; installed: cpu", ["--synth", "noise", "--target", "abacus"]),
        ("target 'coreml' is refused: ", ["--synth", "noise", "--target", "coreml"]),
        ("no synthesizer 'dreams'; installed: adversarial", ["--synth", "dreams"]),
        (
            "no calibrator 'guess'; installed: entropy, minmax, mse, percentile",
            ["--synth", "noise", "--calibrator", "guess"],
        ),
        (
            "no refinement 'polish'; installed: equalize, channels, closed-form, reconstruct, bias",
            ["--synth", "noise", "--refine", "polish"],
        ),
        (
            "noise: distribution 'flat' is neither uniform nor gaussian",
            ["--synth", "noise", "--option", "distribution=flat"],
        ),
    ],
)
def test_wrong_usage_ends_with_2(here: Path, net: Path, words: str, options: list[str]) -> None:
    fails(2, words, "calibrate", net.name, *options)
    assert [path.name for path in here.iterdir()] == [net.name]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("nowhere: no such file or folder", ["--data", "nowhere"]),
        ("none.onnx: no such file", ["--synth", "deepinversion", "--teacher", "none.onnx"]),
        ("--teacher does not fit the model", ["--synth", "deepinversion", "--teacher", "other.onnx"]),
        ("net.onnx/out", ["--synth", "noise", "--samples", "8", "-o", "net.onnx/out"]),
        ("preprocess has 2 channels and the model's", ["--synth", "noise", "--mean", "0,0", "--std", "1,1"]),
        ("device 'cuda:9' is not available here", ["--synth", "noise", "--device", "cuda:9"]),
    ],
)
def test_what_is_not_there_ends_with_1(here: Path, net: Path, tiny: Model, words: str, options: list[str]) -> None:
    onnx.save(tiny(classes=7), "other.onnx")
    fails(1, words, "calibrate", net.name, *options)
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "other.onnx"]


def test_synthesize_writes_samples_and_picture(here: Path, net: Path) -> None:
    result = run("synthesize", net.name, "--method", "noise", "--option", "distribution=gaussian", "--samples", "50")
    assert result.exit_code == 0, result.output
    head, *figures = result.stdout.splitlines()
    assert head == "50 samples  3 x 8 x 8, noise"
    assert [line.split()[0] for line in figures] == [
        "statistics", "classes", "confidence", "diversity", "wrote", "wrote",
    ]  # fmt: skip
    assert figures[-2:] == ["  wrote       net-samples.npz", "  wrote       net-samples.png"]
    assert re.fullmatch(r"noise: done in 0\.\d s\n", result.stderr)
    images = Samples.load(here / "net-samples.npz").images
    assert images.shape == (50, 3, 8, 8)
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
    assert (here / "net-samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_verifier_is_asked(here: Path, net: Path) -> None:
    arguments = ("synthesize", net.name, "--method", "noise", "--samples", "4", "--verifier", net.name)
    found = json.loads(run(*arguments, "--json", "-q").stdout)
    assert found["figures"]["verifier_agreement"] == 1
    assert "verifier    100 % get the same class from the second network" in run(*arguments).stdout


def test_synthesize_json_and_the_same_seed(here: Path, net: Path) -> None:
    for name in ("a.npz", "b.npz"):
        result = run(
            "synthesize", net.name, "--method", "noise", "--samples", "4", "--seed", "7", "-o", name, "--json", "-q"
        )
        assert json.loads(result.stdout)["files"] == [name, name.replace("npz", "png")]
        assert result.stderr == ""
    assert (here / "a.npz").read_bytes() == (here / "b.npz").read_bytes()


def test_options_reach_the_method(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(model: Path, **options: object) -> Samples:
        seen.update(options)
        return Samples(np.zeros((1, 3, 8, 8), np.float32))

    monkeypatch.setattr(synthesize, "synthesize", record)
    settings = ["--iterations", "7", "--option", "tv-l2=0.25", "--option", "flip=false", "--option", "jitter=none"]
    result = run("synthesize", net.name, *settings, "--mean", "0.5", "--std", "0.25", "--seed", "3")
    assert result.exit_code == 0, result.output
    method = seen["synth"]
    assert [getattr(method, name) for name in ("iterations", "tv_l2", "flip", "jitter")] == [7, 0.25, False, None]
    assert seen["seed"] == 3
    assert repr(seen["preprocess"]) == "Preprocess(mean=(0.5,), std=(0.25,))"


FILES = ["model.qdq.onnx", "encodings.json", "samples.npz", "samples.png", "report.json", "report.html"]


def test_calibrate_writes_its_files_and_a_summary(here: Path, net: Path) -> None:
    result = run("calibrate", net.name, "--synth", "procedural", "--preprocess", "zero-one", "--samples", "24")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "net.onnx in INT8  ONNX Runtime on x86 and Arm CPUs",
        "  input       3 x 8 x 8",
        "  preprocess  zero-one: mean 0, std 1",
        "  samples     24 by procedural, seed 0",
    ]
    assert [line.split()[0] for line in lines[4:8]] == ["statistics", "classes", "confidence", "diversity"]
    assert lines[8] == "  calibrated  ranges by mse, refined by bias"
    compared = lines.index("against float  95 % interval of the agreement, signal to noise of the worst output")
    assert [line.split()[0] for line in lines[compared + 1 : compared + 5]] == [
        "procedural", "procedural", "photographs", "real",
    ]  # fmt: skip
    assert lines[compared + 1].endswith("on 3 inputs held out of the samples")
    wrote = lines.index("wrote  net-cpu/")
    assert [line.split()[0] for line in lines[wrote + 1 : wrote + 1 + len(FILES)]] == FILES
    assert lines[wrote + 1 + len(FILES)] == ""
    (last,) = lines[wrote + 2 + len(FILES) :]
    assert last.split()[0] in ("OK:", "CHECK:")
    assert sorted(path.name for path in (here / "net-cpu").iterdir()) == sorted(FILES)
    session = ort.InferenceSession(here / "net-cpu/model.qdq.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((2, 3, 8, 8), np.float32)})[0].shape == (2, 4)


def test_calibrate_json_takes_samples_again(here: Path, net: Path) -> None:
    run("synthesize", net.name, "--method", "procedural", "--samples", "16", "-o", "s.npz")
    arguments = "--data s.npz --samples 8 --calibrator minmax --refine none -o out --json -q"
    result = run("calibrate", net.name, *arguments.split())
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["samples"]["count"] == 8
    assert document["calibration"] == {
        "method": "minmax", "bits": "w8a8", "refine": [], "headroom": 1.2, "known_ranges": 0,
    }  # fmt: skip
    assert sorted(document["paths"]) == sorted(f"out/{name}" for name in FILES)
    assert json.loads((here / "out/report.json").read_text())["samples"] == document["samples"]


def test_calibrate_without_normalization_says_what_it_did_instead(here: Path, tiny: Model) -> None:
    onnx.save(tiny(normalized=False), "folded.onnx")
    result = run("calibrate", "folded.onnx", "--synth", "deepinversion", "--samples", "8", "-q", "--json")
    document = json.loads(result.stdout)
    assert document["samples"]["method"] == "procedural"
    (warning,) = document["warnings"]
    assert "--teacher" in warning
    assert (here / "folded-cpu/model.qdq.onnx").is_file()


def test_an_earlier_result_outlives_a_failed_one(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("calibrate", net.name, "--synth", "noise", "--samples", "8", "-o", "out")
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfq_deploy.report.writing.write_report", interrupt)
    arguments = ["--synth", "noise", "--samples", "9", "--seed", "1", "-o", "out", "-q"]
    fails(1, "interrupted: nothing was written", "calibrate", net.name, *arguments)
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == before
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "out"]


def test_an_interrupt_after_the_result_says_where_it_is(here: Path, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfq_deploy.cli.views.results.show_calibration", interrupt)
    arguments = ["--synth", "noise", "--samples", "8", "-o", "out"]
    fails(1, "interrupted: out was written before", "calibrate", net.name, *arguments)
    assert (here / "out/model.qdq.onnx").is_file()


@pytest.mark.parametrize("command", [["synthesize"], ["calibrate", "--synth", "noise"]])
def test_an_unwritable_place_is_known_before_the_work(
    net: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(synthesize, "synthesize", lambda *_, **__: pytest.fail("it started to work"))
    fails(1, f"cannot write {net}/out", *command, net, "-o", net / "out")


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (KeyboardInterrupt(), "interrupted: nothing was written"),
        (MemoryError(), "error: not enough memory; use fewer samples (--samples)"),
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "error: not enough memory"),
        (
            OSError(28, "No space left on device"),
            "error: cannot write old.npz: No space left on device; choose another",
        ),
        (ZeroDivisionError("by zero"), "error: unexpected ZeroDivisionError: by zero; run again with --debug"),
    ],
)
def test_every_end_is_one_line(
    here: Path, net: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException, words: str
) -> None:
    def fail(*_: object, **__: object) -> Samples:
        raise problem

    monkeypatch.setattr(synthesize, "synthesize", fail)
    (here / "old.npz").write_text("an earlier result")
    fails(1, words, "synthesize", net.name, "-o", "old.npz")
    assert (here / "old.npz").read_text() == "an earlier result"
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "old.npz"]


def test_a_real_interrupt_leaves_nothing(here: Path, net: Path) -> None:
    code = "from dfq_deploy.cli import main; main()"
    command = [sys.executable, "-c", code, "synthesize", net.name, "--iterations", "1000000", "-o", "out/s.npz"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while not (here / "out").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output == ""
    assert errors.splitlines()[-1] == "interrupted: nothing was written"
    assert "Traceback" not in errors
    assert list((here / "out").iterdir()) == []


def test_evaluate_on_one_screen(here: Path, net: Path) -> None:
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez("set.npz", images=images, labels=np.zeros(8, np.int64))
    result = run("evaluate", net.name, net.name, "--data", "set.npz", "--samples", "4")
    assert result.exit_code == 3, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "net.onnx against net.onnx"
    assert lines[1] == "  data        4 samples: set.npz"
    assert "1.0 times smaller" in lines[2]
    assert "0.00 points lost (standard error 0.00)" in lines[3]
    assert lines[4] == "  agreement   100.00 % get the same class"
    assert lines[6] == "  output      equal, largest difference 0"
    assert lines[7] == "  kernels     0 of 2 layers in INT8 (0.0 % of the products)"
    assert lines[9] == "! net.onnx holds no quantized operator: is it the float model?"
    assert lines[-1].startswith("BAD: nothing runs in INT8: all 2 layers are float")


def test_evaluate_json_with_latency(net: Path) -> None:
    result = run("evaluate", net, net, "--latency", "--json", "--seed", "2")
    document = json.loads(result.stdout)
    assert document["data"] == "256 procedural pictures (seed 2), no real data"
    assert [entry["batch"] for entry in document["latency"]] == [1, 8]
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        "procedural", "float against quantized", "latency at batch 1", "latency at batch 8",
    ]  # fmt: skip


def test_evaluate_refuses_what_it_cannot_run(net: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is a text file")
    fails(1, f"{tmp_path / 'text.onnx'}: not an ONNX model but a text file", "evaluate", net, tmp_path / "text.onnx")
    fails(1, "add --preprocess imagenet|", "evaluate", net, net, "--data", pictures(tmp_path))


def pictures(folder: Path) -> Path:
    from PIL import Image

    (folder / "set").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "set/a.png")
    return folder / "set"


def test_targets() -> None:
    lines = run("targets").stdout.splitlines()
    assert lines[0].split() == ["target", "activations", "weights", "Q", "and", "DQ", "on", "shapes", "runtime"]
    rows = {line.split()[0]: " ".join(line.split()) for line in lines[1:] if line}
    assert rows["cpu"] == "cpu (default) u8 s8 per channel kernel in/outputs ONNX Runtime on x86 and Arm CPUs"
    assert rows["nnapi"] == "nnapi u8 s8 per channel kernel in/outputs static ONNX Runtime with NNAPI, Android 10+"
    assert rows["tensorrt"].startswith("tensorrt s8 s8 per channel layer inputs TensorRT")
    assert any(line.startswith("  coreml  ONNX Runtime's Core ML provider has no QuantizeLinear") for line in lines)
    document = json.loads(run("targets", "--json").stdout)
    names = ["cpu", "web", "openvino", "tensorrt", "xnnpack", "litert", "nnapi", "nnapi-per-tensor", "qnn"]
    names += ["rknn", "rknn-rv1106"]
    assert [target["name"] for target in document["targets"]] == names
    assert document["default"] == "cpu"
    assert all(target["problem"] == "" for target in document["targets"])


def test_methods() -> None:
    text = run("methods", "-v").stdout
    for words in ("deepinversion     descent on the pixels", "distribution=uniform", "--calibrator mse --refine bias"):
        assert words in text
    document = json.loads(run("methods", "--json").stdout)
    assert re.search(r"\n  mse .*  \(default\)\n", text)
    assert document["defaults"]["synth"] == "auto"
    assert document["defaults"]["synthesize"] == "deepinversion"
    assert [entry["name"] for entry in document["calibrators"]] == [
        *("entropy", "minmax", "mse", "percentile", "tensorrt-entropy", "tensorrt-minmax"),
    ]
    assert all(entry["problem"] == "" for kind in ("synthesizers", "exporters") for entry in document[kind])


def test_a_mean_of_0_to_255_is_refused_with_what_to_type(net: Path) -> None:
    result = run("calibrate", net.name, "--synth", "procedural", "--mean", "123,117,104", "--std", "58,57,57")
    assert result.exit_code == 2
    assert "divide by 255: --mean 0.4824,0.4588,0.4078 --std 0.2275,0.2235,0.2235" in result.stderr


def test_folders_that_are_no_classes_give_no_top_1(here: Path, net: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (here / "set" / name).mkdir(parents=True)
        for index in range(2):
            pixels = generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(here / "set" / name / f"{index}.png")
    arguments = ["evaluate", net.name, net.name, "--data", "set", "--preprocess", "zero-one", "--json", "-q"]
    unknown = json.loads(run(*arguments).stdout)
    assert unknown["float_top1"] is None
    assert any("('cat', 'dog') cannot be mapped to the 4 classes of the model" in line for line in unknown["warnings"])
    (here / "names.txt").write_text("ant\ncat\ndog\nelk\n")
    known = json.loads(run(*arguments, "--labels", "names.txt").stdout)
    assert known["float_top1"] is not None
    assert not any("cannot be mapped" in line for line in known["warnings"])
