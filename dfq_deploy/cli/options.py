"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dfq_deploy.cli.names import CALIBRATOR, PREPROCESS, REFINEMENT, SYNTHESIZER, TARGET, WordType
from dfq_deploy.cli.option_types import (
    FILE,
    CountType,
    FractionType,
    NumbersType,
    NumberType,
    RangeType,
    ShapeType,
    TeacherType,
)
from dfq_deploy.cli.plugin_options import complete_setting

__all__ = [
    "bits_options",
    "budget_options",
    "calibrator_options",
    "compare_option",
    "data_option",
    "fix_option",
    "floor_options",
    "input_options",
    "integer_option",
    "labels_option",
    "override_options",
    "preprocess_options",
    "samples_option",
    "shape_option",
    "synthesis_options",
    "target_option",
    "use_options",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def shape_option(command: Decorated) -> Decorated:
    """``--input-shape NAME:1,3,224,224``, repeatable; a tuple of pairs."""
    return click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        type=ShapeType(),
        help="Shape to calibrate an input of open size with, including the batch (the size stays open); repeatable.",
    )(command)


TASKS = ("classify", "detect", "segment", "regress", "embed")
"""As :data:`dfq_deploy.graph.task.TASKS`, which takes long to import."""


def use_options(command: Decorated) -> Decorated:
    """``--main-input`` and ``--task``."""
    for option in (
        click.option(
            "--task",
            type=WordType(TASKS),
            help="What the model does; by default, its outputs are examined for class scores.",
        ),
        click.option(
            "--main-input",
            metavar="NAME",
            help="The input that samples are made for; by default inferred from use and name.",
        ),
    ):
        command = option(command)
    return command


def compare_option(command: Decorated) -> Decorated:
    """``--compare other/report.json``."""
    return click.option(
        "--compare",
        type=FILE,
        metavar="REPORT",
        help="Compare with another run in the report: its report.json, or its folder.",
    )(command)


def integer_option(command: Decorated) -> Decorated:
    """``--integer-io``."""
    return click.option(
        "--integer-io",
        is_flag=True,
        help="Write a model that takes uint8 pixels (N, C, H, W), with --preprocess folded in, and returns "
        "integers if the runtime supports this.",
    )(command)


def input_options(command: Decorated) -> Decorated:
    """``--input-shape`` and ``--input-range``, both repeatable, as tuples of pairs; ``--main-input`` and ``--task``."""
    ranged = click.option(
        "--input-range",
        "input_ranges",
        multiple=True,
        type=RangeType(),
        help="Range of the values drawn for an input that is not an image (token ids, mask, length); repeatable.",
    )(command)
    return shape_option(use_options(ranged))


def fix_option(command: Decorated) -> Decorated:
    """``--fix-shapes``."""
    return click.option(
        "--fix-shapes",
        is_flag=True,
        help="Make open sizes static in the result, with the sizes used for calibration.",
    )(command)


def preprocess_options(command: Decorated) -> Decorated:
    """Add ``--preprocess``, ``--mean`` and ``--std``; :func:`dfq_deploy.cli.arguments.preprocess` reads them."""
    for option in (
        click.option(
            "--std", type=NumbersType(), help="Standard deviation of each channel: input = (pixel / 255 - mean) / std."
        ),
        click.option(
            "--mean",
            type=NumbersType(),
            help="Mean of each channel, for pixel / 255; with --std, in place of --preprocess.",
        ),
        click.option(
            "--preprocess",
            type=PREPROCESS,
            help="Normalization of the model's input: imagenet, cifar10, zero-one, minus-one-one or raw.",
        ),
    ):
        command = option(command)
    return command


def samples_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """``--samples N``."""
    return click.option("--samples", type=CountType(1, 256), help=help_text)


def bits_options(command: Decorated) -> Decorated:
    """``--bits`` and ``--edge-bits``."""
    for option in (
        click.option("--edge-bits", type=CountType(2, 8), help="Bits of the first and the last layer."),
        click.option(
            "--bits",
            metavar="w8a8",
            help="Bits of weights and activations of every layer; 'auto' chooses them within --size or --drop.",
        ),
    ):
        command = option(command)
    return command


def target_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """``--target NAME``, by default cpu."""
    return click.option("--target", type=TARGET, default="cpu", show_default=True, help=help_text)


def calibrator_options(calibrator: str, refine: str) -> Callable[[Decorated], Decorated]:
    """``--calibrator``, which was called ``--method``, and ``--refine``; :func:`dfq_deploy.cli.arguments.calibrator`
    reads the first two.

    Args:
        calibrator, refine: help texts.
    """

    def decorate(command: Decorated) -> Decorated:
        for option in (
            click.option("--refine", multiple=True, type=REFINEMENT, help=refine),
            click.option("--method", type=CALIBRATOR, hidden=True),
            click.option("--calibrator", type=CALIBRATOR, help=calibrator),
        ):
            command = option(command)
        return command

    return decorate


def budget_options(command: Decorated) -> Decorated:
    """``--size`` and ``--drop``: the budget of ``--bits auto``."""
    for option in (
        click.option(
            "--drop",
            type=NumberType("a percentage from 0 to 100", lambda number: 0 <= number <= 100),
            metavar="POINTS",
            help="With --bits auto: largest percentage of samples whose class may change.",
        ),
        click.option(
            "--size",
            type=FractionType(),
            help="With --bits auto: largest size of the file, in percent of the float file (8 bits: 25% and more).",
        ),
    ):
        command = option(command)
    return command


def override_options(command: Decorated) -> Decorated:
    """``--keep-float``, ``--exclude`` and ``--overrides``."""
    for option in (
        click.option(
            "--overrides", type=FILE, metavar="FILE", help="A TOML file: type, bits, symmetry and range of tensors."
        ),
        click.option("--exclude", metavar="REGEX", help="Keep in float the nodes whose name matches this expression."),
        click.option(
            "--keep-float",
            multiple=True,
            metavar="NAME",
            help="Keep a node in float: its name, its operator, or a pattern such as 'head*'; repeatable.",
        ),
    ):
        command = option(command)
    return command


def floor_options(command: Decorated) -> Decorated:
    """``--floor``, ``--max-time`` and ``--max-slowdown``."""
    for option in (
        click.option(
            "--max-slowdown",
            type=NumberType("a factor from 1 on, such as 1.15", lambda number: number >= 1),
            metavar="FACTOR",
            help="Largest latency of a result after remedies, as a multiple of the first result's.  [default: 1.15; "
            "while the floor is not reached, more where the result stays faster than float]",
        ),
        click.option(
            "--max-time",
            type=NumberType("a number of seconds from 0 on, such as 60", lambda number: number >= 0),
            metavar="SECONDS",
            help="Time limit for remedies.  [default: half of what the calibration took, at least 60]",
        ),
        click.option(
            "--floor",
            default="ok",
            show_default=True,
            metavar="FLOOR",
            help="Try remedies if the result is below: ok (verdict), agreement=99 (percent), snr=20 (dB), or none.",
        ),
    ):
        command = option(command)
    return command


def data_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """``--data PATH``."""
    return click.option("--data", type=FILE, metavar="PATH", help=help_text)


def labels_option(command: Decorated) -> Decorated:
    """``--labels FILE``."""
    return click.option(
        "--labels",
        type=FILE,
        metavar="FILE",
        help="Class names, one per line, in the order of the model's scores: for the report, and where the folders of "
        "--data have these names.",
    )(command)


def synthesis_options(command: Decorated) -> Decorated:
    """Options of synthesis; :func:`dfq_deploy.cli.arguments.synthesizer` reads ``--iterations`` and ``--option``."""
    for option in (
        click.option("--resume", is_flag=True, help="Continue an interrupted run of the same command."),
        click.option(
            "--tolerance",
            type=NumberType("a number from 0 to below 1, such as 0.02", lambda number: 0 <= number < 1),
            metavar="T",
            help="Stop early when the ranges change by less than this fraction of their span; 0 runs every iteration.  "
            "[default: 0.02 on a paper's schedule, else 0]",
        ),
        click.option(
            "--statistics",
            type=SYNTHESIZER,
            help="Where no BatchNormalization is left, match the statistics of pictures drawn by this method.",
        ),
        click.option(
            "--verifier",
            type=TeacherType(),
            metavar="FILE[:PREPROCESS]",
            help="A second network with the same classes: report how often it gives a sample the same class.",
        ),
        click.option(
            "--option",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            shell_complete=complete_setting,
            help="An option of the synthesis method; repeatable. `dfq-deploy methods -v` lists them.",
        ),
        click.option("--iterations", type=CountType(1, 2000), help="Same as --option iterations=N."),
        click.option(
            "--teacher",
            "teachers",
            multiple=True,
            type=TeacherType(),
            metavar="FILE[:PREPROCESS]",
            help="The same network exported with its BatchNormalization; for lis, several networks. Append :PREPROCESS "
            "if it differs from the model's. Repeatable.",
        ),
    ):
        command = option(command)
    return command
