"""Options that several commands take, and how their text becomes objects."""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import click

if TYPE_CHECKING:
    from dfq_deploy.contracts import Exporter, Synthesizer
    from dfq_deploy.preprocess import Preprocess
    from dfq_deploy.teachers import Teacher

__all__ = [
    "FILE",
    "bits_options",
    "budget_options",
    "data_option",
    "default_of",
    "exporter_of",
    "input_options",
    "integer_option",
    "method_fields",
    "preprocess_of",
    "preprocess_options",
    "samples_option",
    "shape_option",
    "synthesis_options",
    "synthesizer_of",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)

SCALARS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class _Numbers(click.ParamType[tuple[float, ...]]):
    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is no list of numbers; write them with commas, e.g. 0.485,0.456,0.406", param, ctx)


class _Part(click.ParamType[float]):
    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"'{value}' is no part of the whole; write 18% or 0.18", param, ctx)


class _Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    name = "NAME:1,3,224,224"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        name, _, text = str(value).rpartition(":")
        try:
            shape = tuple(int(part) for part in text.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            self.fail(f"'{value}' is not of the form NAME:1,3,224,224", param, ctx)
        return name, shape


class _Range(click.ParamType[tuple[str, tuple[float, float]]]):
    name = "NAME:LO,HI"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, float]]:
        name, _, text = str(value).rpartition(":")
        try:
            low, high = (float(part) for part in text.split(","))
        except ValueError:
            name, low, high = "", 0.0, 0.0
        if not name:
            self.fail(f"'{value}' is not of the form NAME:LO,HI, e.g. ids:0,30521", param, ctx)
        return name, (low, high)


class _Teacher(click.ParamType["Teacher | Path"]):
    name = "FILE[:PREPROCESS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Teacher | Path":
        from dfq_deploy.errors import SamplesError
        from dfq_deploy.teachers import teacher_named

        try:
            return teacher_named(str(value))
        except SamplesError as problem:
            raise click.UsageError(f"{problem}.") from None


def shape_option(command: Decorated) -> Decorated:
    """``--input-shape NAME:1,3,224,224``, repeatable; a tuple of pairs."""
    return click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        type=_Shape(),
        help="The size of an input that the model leaves open, with the batch (which stays open); repeatable.",
    )(command)


def integer_option(command: Decorated) -> Decorated:
    """``--integer-io``."""
    return click.option(
        "--integer-io",
        is_flag=True,
        help="Bytes in, integers out: pixels (N, C, H, W) from 0 to 255, with --preprocess folded into the model.",
    )(command)


def input_options(command: Decorated) -> Decorated:
    """``--input-shape`` and ``--input-range``, both repeatable; tuples of pairs."""
    ranged = click.option(
        "--input-range",
        "input_ranges",
        multiple=True,
        type=_Range(),
        help="What an input that is no picture (token ids, a mask, a length) is drawn from; repeatable.",
    )(command)
    return shape_option(ranged)


def preprocess_options(command: Decorated) -> Decorated:
    """Add ``--preprocess``, ``--mean`` and ``--std``; :func:`preprocess_of` reads them."""
    for option in (
        click.option("--std", type=_Numbers(), help="Divides what --mean leaves."),
        click.option("--mean", type=_Numbers(), help="Subtracted from pixel / 255; with --std, instead of a name."),
        click.option(
            "--preprocess",
            metavar="NAME",
            help="What turns pixels into the model's input: imagenet, cifar10, zero-one, minus-one-one or raw.",
        ),
    ):
        command = option(command)
    return command


def preprocess_of(
    name: str | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> "Preprocess | None":
    """The preprocess that the three options describe; None where none of them is given."""
    from dfq_deploy.preprocess import PREPROCESSES, Preprocess

    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std go together.")
    if name is not None and mean is not None:
        raise click.UsageError("--preprocess and --mean/--std exclude each other.")
    if mean is not None and std is not None:
        try:
            return Preprocess(mean, std)
        except ValueError as problem:
            raise click.UsageError(f"--mean and --std: {problem}.") from None
    if name is not None and name not in PREPROCESSES:
        raise click.UsageError(f"Unknown preprocess '{name}'; choose {', '.join(PREPROCESSES)}, or --mean and --std.")
    return None if name is None else PREPROCESSES[name]


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
            type=_Part(),
            help="With --bits auto: largest part of what the weights take in float32 (8 bits: 25%).",
        ),
    ):
        command = option(command)
    return command


def data_option(meaning: str) -> Callable[[Decorated], Decorated]:
    """``--data PATH``."""
    return click.option("--data", type=FILE, metavar="PATH", help=meaning)


def synthesis_options(command: Decorated) -> Decorated:
    """What synthesis takes; :func:`synthesizer_of` reads ``--iterations`` and ``--option``."""
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
            type=_Teacher(),
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
            type=_Teacher(),
            metavar="FILE[:PREPROCESS]",
            help="The same network exported with its BatchNormalization, or for lis several networks, each with its "
            "own preprocess where that is not the model's; repeatable.",
        ),
    ):
        command = option(command)
    return command


def synthesizer_of(name: str, iterations: int | None, settings: Sequence[str]) -> "str | Synthesizer":
    """The method by name, or the method itself where it is given options; ``lowpass=RADIUS`` is one of every method.

    Raises:
        PluginError: it is not installed.
        click.UsageError: an option is unknown, or its value is no such thing.
    """
    from dfq_deploy.errors import SamplesError

    given = () if iterations is None else (f"iterations={iterations}",)
    kept = [setting for setting in settings if _pair(setting)[0] != "lowpass"]
    radius = [_pair(setting)[1] for setting in settings if _pair(setting)[0] == "lowpass"]
    method: str | Synthesizer = _plugin_of("synthesizers", name, (*kept, *given))
    if not radius:
        return method
    from dfq_deploy.plugins import find
    from dfq_deploy.synthesis.lowpass import low_passed

    whole: Synthesizer = find("synthesizers", method)() if isinstance(method, str) else method
    try:
        return low_passed(whole, _converted("lowpass", radius[-1], float))
    except SamplesError as problem:
        raise click.UsageError(f"--option {problem}.") from None


def exporter_of(name: str, settings: Sequence[str]) -> "str | Exporter":
    """The exporter by name, or the exporter itself where it is given options.

    Raises:
        PluginError: it is not installed.
        click.UsageError: an option is unknown, or its value is no such thing.
    """
    exporter: str | Exporter = _plugin_of("exporters", name, settings)
    return exporter


def _plugin_of(plural: str, name: str, settings: Sequence[str]) -> Any:
    from dfq_deploy.plugins import find

    kind = find(plural, name)
    given = dict(_pair(setting) for setting in settings)
    if not given:
        return name
    known = {field.name: hint for field, hint in method_fields(kind)}
    for key in given:
        if key not in known:
            listed = ", ".join(sorted({*known, "lowpass"} if plural == "synthesizers" else known)) or "none"
            noun = "method" if plural == "synthesizers" else plural[:-1]
            raise click.UsageError(f"The {noun} '{name}' has no option '{key}'; it has: {listed}.")
    return kind(**{key: _converted(key, text, known[key]) for key, text in given.items()})


def method_fields(kind: type) -> "list[tuple[Field[Any], Any]]":
    """The options of a method: its dataclass fields with their types."""
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in fields(kind) if field.init]


def default_of(field: "Field[Any]") -> Any:
    """The default of an option; None where it has none."""
    return None if field.default is MISSING else field.default


def _pair(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--option '{setting}' is not of the form KEY=VALUE.")
    return key.strip().replace("-", "_"), value.strip()


def _converted(key: str, text: str, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, type(int | None)) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if option in (int, float, str):
            try:
                return option(text)
            except ValueError:
                continue
    wanted = " or ".join(SCALARS.get(option, str(option)) for option in options if option is not type(None))
    raise click.UsageError(f"--option {key}: '{text}' is not {wanted}.")
