"""``dfq-deploy init``: a plan that can be run as it is."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli.main import main
from dfq_deploy.cli.plans.plan import read_plan
from dfq_deploy.cli.shell import Shell

Model = Callable[..., onnx.ModelProto]

SHELL = Shell(seed=0, device="cpu", as_json=False, verbose=False, quiet=True, debug=False)


def init(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["init", *(str(argument) for argument in arguments)])


@pytest.fixture
def here(tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two networks."""
    onnx.save(tiny(), tmp_path / "a.onnx")
    (tmp_path / "sub").mkdir()
    onnx.save(tiny(normalized=False), tmp_path / "sub/b.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plan_is_what_inspect_finds(here: Path) -> None:
    result = init("a.onnx", "sub/b.onnx", "--target", "cpu", "--target", "qnn", "-o", "sub/plan.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout == "wrote sub/plan.toml; next: dfq-deploy run sub/plan.toml --list\n"
    text = (here / "sub/plan.toml").read_text()
    assert max(map(len, text.splitlines())) <= 120
    first, second = tomllib.loads(text)["model"]
    assert first == {"path": "../a.onnx", "synth": "deepinversion"}
    assert second == {"path": "b.onnx", "synth": "auto"}
    for words in (
        "# in image [batch, 3, 8, 8]; out scores [batch, 4]; 4 classes, 214 parameters",
        'synth = "deepinversion"  # 1 BatchNormalization layers to match',
        '# teacher = ["with_batch_norm.onnx"]',
        '# preprocess = "imagenet"',
        "# mean = [0.485, 0.456, 0.406]",
        '# keep-float = ["fc"]',
        "# Note: no BatchNormalization is left",
    ):
        assert words in text
    runs = read_plan(here / "sub/plan.toml", SHELL)
    assert [(run.model.resolve(), run.target) for run in runs] == [
        *((here / "a.onnx", target) for target in ("cpu", "qnn")),
        *((here / "sub/b.onnx", target) for target in ("cpu", "qnn")),
    ]


def test_what_is_commented_out_can_be_used(here: Path) -> None:
    init("a.onnx")
    text = (here / "plan.toml").read_text()
    for key in ("preprocess", "samples", "bits", "keep-float", "output"):
        text = text.replace(f"# {key} = ", f"{key} = ")
    (here / "plan.toml").write_text(text)
    (run,) = read_plan(here / "plan.toml", SHELL)
    assert run.folder == here / "int8/a-cpu"
    assert run.keywords["keep_float"] == ("fc",)


def test_a_plan_is_replaced_only_when_asked(here: Path) -> None:
    (here / "plan.toml").write_text("mine")
    refused = init("a.onnx")
    assert refused.exit_code == 1
    assert refused.stderr == "error: plan.toml exists; give --force to replace it, or choose another place with -o\n"
    assert (here / "plan.toml").read_text() == "mine"
    replaced = init("a.onnx", "--force")
    assert replaced.stdout == "replaced plan.toml; next: dfq-deploy run plan.toml --list\n"
    document = json.loads(init("a.onnx", "--force", "--json").stdout)
    assert document == {"plan": "plan.toml", "replaced": True, "models": ["a.onnx"], "targets": ["cpu"]}


def test_a_model_is_not_replaced(here: Path) -> None:
    refused = init("a.onnx", "-o", "a.onnx", "--force")
    assert refused.exit_code == 1
    assert refused.stderr == "error: cannot write a.onnx: it is read by this command; choose another place with -o\n"


def test_names_cannot_leave_their_comment(here: Path, tiny: Model) -> None:
    model = tiny()
    model.graph.node[-1].name = 'fc"] # [[model]]'
    onnx.save(model, here / "a.onnx")
    assert init("a.onnx").exit_code == 0
    assert len(tomllib.loads((here / "plan.toml").read_text())["model"]) == 1
