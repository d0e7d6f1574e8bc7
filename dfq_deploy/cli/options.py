"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dfq_deploy.cli.option_types import FILE, NumbersType, PartType, RangeType, ShapeType, TeacherType

__all__ = [
    "bits_options",
    "budget_options",
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
        help="The size to measure an input at that the model leaves open, with the batch; repeatable.",
    )(command)


TASKS = ("classify", "detect", "segment", "regress", "embed")
"""As :data:`dfq_deploy.graph.task.TASKS`, which takes long to import."""


def use_options(command: Decorated) -> Decorated:
    """``--main-input`` and ``--task``."""
    for option in (
        click.option(
            "--task",
            type=click.Choice(TASKS),
            help="What the model does; by default its outputs tell whether they are class scores.",
        ),
        click.option(
            "--main-input",
            metavar="NAME",
            help="The input that samples are made for; by default its use and its name tell.",
        ),
    ):
        command = option(command)
    return command


def integer_option(command: Decorated) -> Decorated:
    """``--integer-io``."""
    return click.option(
        "--integer-io",
        is_flag=True,
        help="Bytes in, integers out: pixels (N, C, H, W) from 0 to 255, with --preprocess folded into the model.",
    )(command)


def input_options(command: Decorated) -> Decorated:
    """``--input-shape`` and ``--input-range``, both repeatable, as tuples of pairs; ``--main-input`` and ``--task``."""
    ranged = click.option(
        "--input-range",
        "input_ranges",
        multiple=True,
        type=RangeType(),
        help="What an input that is no picture (token ids, a mask, a length) is drawn from; repeatable.",
    )(command)
    return shape_option(use_options(ranged))


def fix_option(command: Decorated) -> Decorated:
    """``--fix-shapes``."""
    return click.option(
        "--fix-shapes",
        is_flag=True,
        help="Close open sizes for good, to those that the model is measured at.",
    )(command)


def preprocess_options(command: Decorated) -> Decorated:
    """Add ``--preprocess``, ``--mean`` and ``--std``; :func:`dfq_deploy.cli.arguments.preprocess` reads them."""
    for option in (
        click.option("--std", type=NumbersType(), help="Divides what --mean leaves."),
        click.option("--mean", type=NumbersType(), help="Subtracted from pixel / 255; with --std, instead of a name."),
        click.option(
            "--preprocess",
            metavar="NAME",
            help="What turns pixels into the model's input: imagenet, cifar10, zero-one, minus-one-one or raw.",
        ),
    ):
        command = option(command)
    return command


def samples_option(meaning: str) -> Callable[[Decorated], Decorated]:
    """``--samples N``."""
    return click.option("--samples", type=click.IntRange(min=1), metavar="N", help=meaning)


def bits_options(command: Decorated) -> Decorated:
    """``--bits`` and ``--edge-bits``."""
    for option in (
        click.option("--edge-bits", type=int, metavar="N", help="Bits of the first and the last layer."),
        click.option(
            "--bits",
            metavar="w8a8",
            help="Bits of weights and activations, of every layer; 'auto' finds them within --size or --drop.",
        ),
    ):
        command = option(command)
    return command


def budget_options(command: Decorated) -> Decorated:
    """``--size`` and ``--drop``: what ``--bits auto`` may cost."""
    for option in (
        click.option(
            "--drop", type=float, metavar="POINTS", help="With --bits auto: percentage of classes that may change."
        ),
        click.option(
            "--size",
            type=PartType(),
            help="With --bits auto: largest part of what the weights take in float32 (8 bits: 25%).",
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
        click.option("--exclude", metavar="REGEX", help="Keep nodes in float whose name this is found in."),
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
            type=click.FloatRange(min=1),
            metavar="FACTOR",
            default=1.15,
            show_default=True,
            help="How many times the first result's latency a remedy may cost.",
        ),
        click.option(
            "--max-time",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long remedies may take.  [default: as long as the calibration, at least 60]",
        ),
        click.option(
            "--floor",
            default="ok",
            show_default=True,
            metavar="FLOOR",
            help="Try remedies below it: ok (by the verdict), agreement=99 (percent), snr=20 (dB), or none.",
        ),
    ):
        command = option(command)
    return command


def data_option(meaning: str) -> Callable[[Decorated], Decorated]:
    """``--data PATH``."""
    return click.option("--data", type=FILE, metavar="PATH", help=meaning)


def labels_option(command: Decorated) -> Decorated:
    """``--labels FILE``."""
    return click.option(
        "--labels",
        type=FILE,
        metavar="FILE",
        help="Class names, one a line in the order of the model's scores: what the folders of --data are called.",
    )(command)


def synthesis_options(command: Decorated) -> Decorated:
    """What synthesis takes; :func:`dfq_deploy.cli.arguments.synthesizer` reads ``--iterations`` and ``--option``."""
    for option in (
        click.option("--resume", is_flag=True, help="Go on where the same command was interrupted."),
        click.option(
            "--tolerance",
            type=click.FloatRange(0, 1, max_open=True),
            metavar="T",
            help="Stop when the ranges move by less than this part of their span; 0 runs to the schedule's end.  "
            "[default: 0.02 on a paper's schedule, else 0]",
        ),
        click.option(
            "--verifier",
            type=TeacherType(),
            metavar="FILE[:PREPROCESS]",
            help="A second network with the same classes: say what it takes the samples for.",
        ),
        click.option(
            "--option",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="An option of the synthesis method; repeatable. `dfq-deploy methods -v` lists them.",
        ),
        click.option("--iterations", type=click.IntRange(min=1), metavar="N", help="Same as --option iterations=N."),
        click.option(
            "--teacher",
            "teachers",
            multiple=True,
            type=TeacherType(),
            metavar="FILE[:PREPROCESS]",
            help="The same network exported with its BatchNormalization, or for lis several networks, each with its "
            "own preprocess where that is not the model's; repeatable.",
        ),
    ):
        command = option(command)
    return command
