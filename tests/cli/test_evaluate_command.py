"""``evaluate`` as a user meets it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.conftest import fails, run


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
