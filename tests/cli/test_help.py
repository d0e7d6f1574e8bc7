"""What the help shows: examples, and only options that mean something."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import onnx
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli.calibrate import calibrate
from dfq_deploy.cli.main import main

Model = Callable[..., onnx.ModelProto]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("name", main.commands)
def test_each_command_has_examples_that_its_options_know(name: str) -> None:
    examples = re.findall(rf"^ +dfq-deploy {name} ?(.*)$", run(name, "--help").stdout, re.MULTILINE)
    assert examples
    known = {option for param in main.commands[name].params for option in param.opts}
    for example in examples:
        assert set(re.findall(r"(?<= )-{1,2}[a-z][a-z-]*", f" {example}")) <= known, example


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("check", ["--seed", "--device", "--synth"]),
        ("export", ["--seed", "--device", "--iterations"]),
        ("inspect", ["--device", "--iterations"]),
        ("targets", ["--seed", "--device", "--max-memory", "--quiet", "--verbose"]),
        ("methods", ["--seed", "--device", "--max-memory", "--quiet"]),
        ("calibrate", ["--method"]),
        ("finetune", ["--method"]),
    ],
)
def test_options_that_change_nothing_are_not_shown(name: str, absent: list[str]) -> None:
    shown = run(name, "--help").stdout
    assert "--json" in shown
    for option in absent:
        assert not re.search(rf"(^|\s){option}\b", shown), option


def test_they_are_still_taken() -> None:
    assert run("targets", "--seed", "3", "--json").exit_code == 0


def test_an_option_has_one_name_in_the_help_of_a_command() -> None:
    names = [param.name for param in calibrate.params if isinstance(param, click.Option) and not param.hidden]
    assert len(names) == len(set(names))


def test_the_old_name_of_the_calibrator_works_and_says_so(
    tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny(), "net.onnx")
    result = run("calibrate", "net.onnx", "--synth", "noise", "--samples", "8", "--method", "minmax", "--json", "-q")
    assert result.stderr == "note: --method is now called --calibrator; the old name still works\n"
    assert json.loads(result.stdout)["calibration"]["method"] == "minmax"


def test_names_in_a_file_move_no_cursor(tmp_path: Path, tiny: Model) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    onnx.save(tiny(), folder / "net.onnx")
    for command in (
        ["inspect", f"{folder}/net.onnx"],
        ["check", f"{folder}/net.onnx"],
        ["inspect", f"{folder}/no.onnx"],
    ):
        for options in ([], ["--json"], ["--debug"]):
            result = run(*command, *options)
            assert "\x1b" not in result.output
    assert json.loads(run("check", f"{folder}/net.onnx", "--json").stdout)["model"] == f"{folder}/net.onnx"
