"""Which layers would hurt, before any calibration."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfq_deploy import inspect
from dfq_deploy.cli.main import main
from dfq_deploy.graph.loading import load
from dfq_deploy.inspection.sensitivity import layer_sensitivity


def test_it_is_left_out_unless_asked_for(digits_folded: Path) -> None:
    found = inspect(digits_folded)
    assert found.sensitivity is None
    assert "sensitivity" not in found.to_json()


def test_fewer_bits_cost_more(digits_folded: Path) -> None:
    source = load(digits_folded)
    eight, four = (layer_sensitivity(source, bits=bits) for bits in ("w8a8", "w4a8"))
    assert four.sensitivity.total_snr < eight.sensitivity.total_snr - 10
    assert {layer.causes[0].kind for layer in four.worst} <= {"few-bits", "depthwise"}
    again = layer_sensitivity(source, bits="w4a8")
    assert [layer.own_snr for layer in again.sensitivity.layers] == [layer.own_snr for layer in four.sensitivity.layers]


def test_the_command_prints_five_and_lists_all(digits_folded: Path) -> None:
    arguments = ["inspect", str(digits_folded), "--sensitivity", "--bits", "w4a8"]
    printed = CliRunner().invoke(main, arguments)
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.count(" alone gives ") == 5
    assert "most sensitive" in printed.stdout
    document = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    layers = document["sensitivity"]["layers"]
    assert len(layers) > 5
    assert [layer["own_snr_db"] for layer in layers] == sorted(layer["own_snr_db"] for layer in layers)
    assert all("causes" in layer for layer in layers[:5])


@pytest.mark.parametrize("option", [["--bits", "w4a8"], ["--preprocess", "cifar10"]])
def test_its_options_need_it(digits_folded: Path, option: list[str]) -> None:
    result = CliRunner().invoke(main, ["inspect", str(digits_folded), *option])
    assert result.exit_code == 2
    assert "need --sensitivity" in result.output
