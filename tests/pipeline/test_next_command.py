"""The command to paste next keeps what was typed, names the right paths, and can be run."""

import shlex
from dataclasses import replace

import click
import pytest

from dfq_deploy.cli.main import main
from dfq_deploy.pipeline.next_command import FLAGS, AfterCalibration, amended
from dfq_deploy.verdict.finding import Finding, Level

TYPED = "dfq-deploy calibrate models/net.onnx --preprocess imagenet --input-shape x:1,3,96,96 --integer-io -o out/int8"
PLAIN = "calibrate models/net.onnx --input-shape x:1,3,96,96 --integer-io -o out/int8"
AFTER = AfterCalibration(TYPED, "models/net.onnx", "out/int8", "model.qdq.onnx", "cpu", "procedural", refined=False)


def _next(code: str, level: Level, options: str = "", after: AfterCalibration = AFTER) -> str:
    return after(Finding(code, level, "message", options=options))


def test_a_preprocess_replaces_the_one_that_was_given() -> None:
    found = _next("preprocess-fit", "BAD", "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")
    assert found == (
        "dfq-deploy calibrate models/net.onnx --input-shape x:1,3,96,96 --integer-io -o out/int8 "
        "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    )


@pytest.mark.parametrize(
    ("code", "level", "expected"),
    [
        ("agreement", "CHECK", "evaluate models/net.onnx out/int8/model.qdq.onnx --data FOLDER --preprocess imagenet"),
        ("agreement", "BAD", f"{TYPED.removeprefix('dfq-deploy ')} --refine reconstruct"),
        ("rules", "BAD", "check out/int8/model.qdq.onnx --target cpu"),
        ("slower-than-float", "BAD", "inspect models/net.onnx --target cpu --verbose"),
        ("layers-in-float", "CHECK", "inspect models/net.onnx --target cpu --verbose"),
        ("samples-few", "CHECK", f"{TYPED.removeprefix('dfq-deploy ')} --samples 64"),
        ("samples-scale", "BAD", f"{PLAIN} --mean MEANS --std DEVIATIONS"),
        ("samples-diversity", "CHECK", f"{TYPED.removeprefix('dfq-deploy ')} --synth deepinversion"),
    ],
)
def test_each_finding_has_its_command(code: str, level: Level, expected: str) -> None:
    found = _next(code, level)
    assert found.startswith(f"dfq-deploy {expected}")


def test_no_inversion_is_advised_without_statistics() -> None:
    without = replace(AFTER, statistics=False)
    assert _next("samples-diversity", "CHECK", after=without).endswith(" --synth photographs")
    assert _next("samples-diversity", "CHECK", after=replace(without, method="data")).endswith(" --synth procedural")


def test_what_has_been_asked_for_is_not_proposed_again() -> None:
    """``--floor snr=20`` was the next command of a run with it."""
    assert _next("output-noise", "CHECK", "--floor snr=20").endswith(" --floor snr=20")
    asked = replace(AFTER, command=f"{TYPED} --floor snr=20")
    assert _next("output-noise", "CHECK", "--floor snr=20", asked).startswith("dfq-deploy evaluate models/net.onnx ")
    assert _next("output-noise", "BAD", "--floor snr=20", asked).startswith("dfq-deploy inspect models/net.onnx ")


def test_what_was_reconstructed_is_looked_at_next() -> None:
    found = _next("agreement", "BAD", after=replace(AFTER, refined=True))
    assert found.startswith("dfq-deploy inspect models/net.onnx --sensitivity --preprocess imagenet")


def test_a_call_in_python_gets_a_command_of_its_own() -> None:
    after = replace(AFTER, command="dfq_deploy.calibrate('models/net.onnx')")
    assert _next("agreement", "BAD", after=after) == (
        "dfq-deploy calibrate models/net.onnx --target cpu --synth procedural -o out/int8 --refine reconstruct"
    )
    assert _next("agreement", "CHECK", after=after) == (
        "dfq-deploy evaluate models/net.onnx out/int8/model.qdq.onnx --data FOLDER"
    )


def test_options_of_one_run_do_not_go_on() -> None:
    command = "dfq-deploy calibrate a.onnx --resume --synth=genie --compare old/report.json --refine bias"
    assert amended(command, ["--synth", "procedural"]) == (
        "dfq-deploy calibrate a.onnx --refine bias --synth procedural"
    )


def test_paths_with_spaces_stay_one_word() -> None:
    found = amended("dfq-deploy calibrate 'my models/a b.onnx' -o 'out 1'", ["--samples", "64"])
    assert shlex.split(found) == ["dfq-deploy", "calibrate", "my models/a b.onnx", "-o", "out 1", "--samples", "64"]


@pytest.mark.parametrize("code", ["agreement", "rules", "slower-than-float", "samples-few", "preprocess-missing"])
@pytest.mark.parametrize("level", ["CHECK", "BAD"])
def test_every_option_is_one_of_the_command(code: str, level: Level) -> None:
    _, name, *rest = shlex.split(_next(code, level, "--preprocess NAME" if code.startswith("preprocess") else ""))
    assert isinstance(main, click.Group)
    known = {option for param in main.commands[name].params for option in param.opts}
    assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize("name", ["calibrate", "finetune"])
def test_flags_are_known_to_take_no_value(name: str) -> None:
    assert isinstance(main, click.Group)
    options = [param for param in main.commands[name].params if isinstance(param, click.Option)]
    assert {option for param in options if param.is_flag for option in param.opts} <= FLAGS
