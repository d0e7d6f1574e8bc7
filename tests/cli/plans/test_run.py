"""``dfq-deploy run``: several models and targets in one file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli.main import main
from dfq_deploy.cli.plans import run as command
from dfq_deploy.cli.plans.plan import Run, read_plan
from dfq_deploy.cli.shell import Shell
from dfq_deploy.errors import ModelError, OptionError

Model = Callable[..., onnx.ModelProto]

SHELL = Shell(seed=5, device="cpu", as_json=False, verbose=False, quiet=True, debug=False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *(str(argument) for argument in arguments)])


def plan(folder: Path, text: str) -> Path:
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def read(folder: Path, text: str) -> list[Run]:
    return read_plan(plan(folder, text), SHELL)


@pytest.fixture
def here(tmp_path: Path, tiny: Model) -> Path:
    """A folder with two networks."""
    onnx.save(tiny(), tmp_path / "a.onnx")
    onnx.save(tiny(normalized=False), tmp_path / "b.onnx")
    return tmp_path


def test_a_real_plan(here: Path) -> None:
    text = """
    [defaults]
    synth = "noise"
    samples = 8
    floor = "none"
    [[model]]
    path = "a.onnx"
    output = "int8"
    [[model]]
    path = "gone.onnx"
    """
    result = run(plan(here, text))
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["summary", lines[1]]
    assert lines[1].split() == ["model", "target", "verdict", "agreement", "size", "took", "results"]
    assert lines[2].split()[:2] == ["a.onnx", "cpu"]
    assert lines[2].split()[2] in ("OK", "CHECK", "BAD")
    assert lines[3].split()[:3] == ["gone.onnx", "cpu", "failed"]
    assert lines[-1].startswith("failed: 1 ")
    assert lines[-1].endswith(
        f"first gone.onnx for cpu: {here}/gone.onnx: no such file; give the path of an .onnx file"
    )
    assert (here / "int8/a-cpu/model.qdq.onnx").is_file()
    assert sorted(path.name for path in here.iterdir()) == ["a.onnx", "b.onnx", "int8", "plan.toml"]


TWO = """
[defaults]
targets = ["cpu", "web"]
synth = "procedural"
preprocess = "imagenet"
[[model]]
path = "a.onnx"
[[model]]
path = "sub/b.onnx"
data = "photos"
mean = [0.5]
std = [0.25]
keep_float = ["fc"]
seed = 7
[model.targets.qnn]
floor = "snr=20"
integer-io = true
"""


def test_a_model_takes_defaults_where_it_states_nothing_else(tmp_path: Path) -> None:
    cpu, web, qnn = read(tmp_path, TWO)
    assert [(one.model, one.target, one.folder) for one in (cpu, web, qnn)] == [
        (tmp_path / "a.onnx", "cpu", tmp_path / "a-cpu"),
        (tmp_path / "a.onnx", "web", tmp_path / "a-web"),
        (tmp_path / "sub/b.onnx", "qnn", tmp_path / "b-qnn"),
    ]
    assert (cpu.keywords["synth"], cpu.keywords["data"], cpu.keywords["seed"]) == ("procedural", None, 5)
    assert (qnn.keywords["synth"], qnn.keywords["data"], qnn.keywords["seed"]) == (None, tmp_path / "photos", 7)
    assert (cpu.keywords["floor"], qnn.keywords["floor"]) == ("ok", "snr=20")
    assert (cpu.keywords["preprocess"].mean[0], qnn.keywords["preprocess"].mean) == (0.485, (0.5,))
    assert (qnn.keywords["keep_float"], qnn.keywords["integer_io"]) == (("fc",), True)


def test_the_page_shows_a_plan(checkout: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (checkout / "docs/plans.md").read_text(), re.DOTALL)
    runs = read(tmp_path, shown)
    assert [str(one.folder.relative_to(tmp_path)) for one in runs] == [
        *("classifier-cpu", "classifier-tensorrt", "int8/detector-cpu", "int8/detector-tensorrt"),
        *("folded-cpu", "folded-web"),
    ]
    assert [one.keywords["floor"] for one in runs] == ["ok"] * 4 + ["agreement=99", "ok"]
    assert runs[5].keywords["method"] == "percentile"


def test_options_may_be_tables(tmp_path: Path) -> None:
    text = """
    [[model]]
    path = "a.onnx"
    synth = "deepinversion"
    teacher = ["b.onnx:imagenet"]
    input-shape = {image = [1, 3, 8, 8]}
    [model.option]
    iterations = 30
    flip = false
    """
    (one,) = read(tmp_path, text)
    assert (one.keywords["synth"].iterations, one.keywords["synth"].flip) == (30, False)
    assert one.keywords["input_shapes"] == {"image": (1, 3, 8, 8)}
    assert one.keywords["teachers"][0].model == tmp_path / "b.onnx"


MISTAKES = [
    ('[[model]]\npath = "a.onnx"\nsinth = "noise"', ", line 3: [[model]] 1: unknown key 'sinth'; did you mean synth?"),
    ('[[model]]\npath = "a.onnx"\n\n[[model]]\npath = "b.onnx"\nflor = 1', ", line 6: [[model]] 2: unknown key 'flor'"),
    ('[defaults]\ntaget = "cpu"', ": no models; begin each with [[model]]; `dfq-deploy init MODEL` writes a plan"),
    (
        '[defaults]\ntaget = "cpu"\n[[model]]\npath = "a"',
        ", line 2: [defaults]: unknown key 'taget'; did you mean targets?",
    ),
    ('[[models]]\npath = "a.onnx"', ", line 1: unknown 'models'; did you mean model?"),
    ('[[model]]\nsynth = "noise"', ': [[model]] 1: no model; write path = "model.onnx"'),
    (
        '[[model]]\npath = "a"\nsynth = "nois"',
        ", line 3: [[model]] 1: synth: no synthesizer 'nois'; did you mean n",
    ),
    (
        '[[model]]\npath = "a"\ntargets = ["tensort"]',
        ", line 3: [[model]] 1: targets: unknown target 'tensort'; did you",
    ),
    ('[[model]]\npath = "a"\ntargets = 3', ": [[model]] 1: targets = 3 is no list of targets"),
    ('[[model]]\npath = "a"\nsamples = -1', ", line 3: [[model]] 1: samples: '-1' is not a whole number from 1 on"),
    ('[[model]]\npath = "a"\nsamples = true', ", line 3: [[model]] 1: samples: 'true' is not a whole number"),
    ('[[model]]\npath = "a"\nfloat16 = "yes"', ", line 3: [[model]] 1: float16 = 'yes' is neither true nor false"),
    ('[[model]]\npath = "a"\nbits = {a = 1}', ", line 3: [[model]] 1: bits = {'a': 1} is not of a kind"),
    (
        '[[model]]\npath = "a"\nsynth = "noise"\ndata = "x"',
        ": [[model]] 1: give --synth NAME or --data PATH, and",
    ),
    ('[[model]]\npath = "a"\nfloor = "good"', ": [[model]] 1: --floor: 'good' is no floor"),
    ('[[model]]\npath = "x/a.onnx"\n[[model]]\npath = "a.onnx"', ": a.onnx for cpu would be written to "),
    ("[[model]\n", ": not a TOML file ("),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_wrong_plan_is_one_line_before_any_work(tmp_path: Path, text: str, words: str) -> None:
    result = run(plan(tmp_path, text), "--json")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/plan.toml{words}")
    assert json.loads(result.stdout)["error"] == line.removeprefix("error: ")


def test_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").touch()
    with pytest.raises(OptionError, match=r"plam\.toml: cannot be read \(No such file or directory\); did you mean .*"):
        read_plan(tmp_path / "plam.toml", SHELL)
    (tmp_path / "photo.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(OptionError, match=r"photo\.toml: not a text file; docs/plans\.md shows a plan"):
        read_plan(tmp_path / "photo.toml", SHELL)


def report(status: str) -> SimpleNamespace:
    """What a calibration gives back, as far as the table shows it."""
    verdict = {"status": status, "reason": f"it is {status}\x1b[2J"}
    sizes = {"file_bytes": 4000}
    agreement = {"predicted": {"value": 98.5}}
    return SimpleNamespace(report={"verdict": verdict, "agreement": agreement, "model": sizes, "quantized": sizes})


@pytest.mark.parametrize(
    ("states", "status", "overall"),
    [
        (["OK", "OK"], 0, "OK: 2 OK of 2 results"),
        (["OK", "CHECK"], 0, "CHECK: 1 OK, 1 CHECK of 2 results; first a.onnx for web: it is CHECK\\x1b[2J"),
        (["BAD", "OK"], 3, "BAD: 1 OK, 1 BAD of 2 results; first a.onnx for cpu: it is BAD\\x1b[2J"),
        (["BAD", ""], 1, "failed: 1 BAD, 1 failed of 2 results; first a.onnx for web: gone"),
    ],
)
def test_the_exit_status_is_that_of_the_worst(
    here: Path, monkeypatch: pytest.MonkeyPatch, states: list[str], status: int, overall: str
) -> None:
    path = plan(here, '[[model]]\npath = "a.onnx"\ntargets = ["cpu", "web"]')

    def calibrated(model: Path, keywords: dict[str, Any], progress: object) -> SimpleNamespace:
        state = states[["cpu", "web"].index(keywords["target"])]
        if not state:
            raise ModelError("gone")
        return report(state)

    monkeypatch.setattr(command, "run_calibration", calibrated)
    shown = run(path)
    assert shown.exit_code == status
    assert shown.stdout.splitlines()[-1] == overall
    assert "\x1b" not in shown.output
    document = json.loads(run(path, "--json").stdout)
    assert document["status"] == overall.partition(":")[0]
    assert [entry["status"] for entry in document["runs"]] == [state or "failed" for state in states]
    assert run(path, "-q").stdout == ""


def test_the_runs_are_listed(tmp_path: Path) -> None:
    path = plan(tmp_path, TWO)
    lines = [line.split() for line in run(path, "--list").stdout.splitlines()]
    assert [line[:3] for line in lines[1:]] == [
        ["a.onnx", "cpu", "ok"], ["a.onnx", "web", "ok"], ["b.onnx", "qnn", "snr=20"],
    ]  # fmt: skip
    assert json.loads(run(path, "--list", "--json").stdout)["runs"][0]["output"] == str(tmp_path / "a-cpu")
