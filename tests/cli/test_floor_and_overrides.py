"""``calibrate`` and ``finetune`` with nodes kept in float, overrides, and a floor, as a user calls them."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli import main
from tests.conftest import TinyModel

KEPT = {"name": "fc", "operator": "Gemm", "reason": "kept in float, as asked"}


@pytest.fixture
def net(tmp_path: Path, tiny: TinyModel) -> str:
    onnx.save(tiny(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


def call(command: str, net: str, *options: str) -> Result:
    out = Path(net).with_name("out")
    given = [command, net, "--synth", "noise", "--samples", "16", "-o", str(out), *options]
    return CliRunner().invoke(main, given)


@pytest.mark.parametrize("option", [("--keep-float", "Gemm"), ("--keep-float", "f?"), ("--exclude", "^fc$")])
def test_a_node_stays_float(net: str, option: tuple[str, str]) -> None:
    done = call("calibrate", net, "--json", "--floor", "none", *option)
    assert done.exit_code in (0, 3), done.output
    assert json.loads(done.stdout)["left_float"] == [KEPT]


def test_a_node_stays_float_in_training(net: str) -> None:
    done = call("finetune", net, "--json", "--bits", "w8a8", "--epochs", "1", "--keep-float", "fc")
    assert done.exit_code in (0, 3), done.output
    assert json.loads(done.stdout)["left_float"] == [KEPT]


@pytest.mark.parametrize(
    ("status", "options", "said"),
    [
        (1, ("--keep-float", "fd"), "keep_float: no node 'fd'"),
        (2, ("--exclude", "("), "exclude: '(' is no regular expression"),
        (1, ("--overrides", "none.toml"), "none.toml: cannot be read"),
        (2, ("--floor", "best"), "floor: 'best' is no floor"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(net: str, status: int, options: tuple[str, str], said: str) -> None:
    done = call("calibrate", net, *options)
    assert done.exit_code == status
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert said in line
    assert not Path(net).with_name("out").exists()


def test_the_way_to_the_floor_is_printed(net: str) -> None:
    done = call("calibrate", net, "--floor", "snr=200", "--max-time", "0")
    assert "below the floor (snr=200)" in done.stdout
    assert "The time for remedies is up (0 s; --max-time)" in done.stdout
