"""Click parameter types: numbers, sizes, shapes, ranges, teachers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from dfq_deploy.synthesis.teachers import Teacher

__all__ = [
    "FILE",
    "BytesType",
    "CountType",
    "FractionType",
    "NumberType",
    "NumbersType",
    "RangeType",
    "ShapeType",
    "TeacherType",
]


class _FileType(click.Path):
    """A path; an empty one, as a shell variable that is not set gives, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty; give a name", param, ctx)
        return super().convert(value, param, ctx)


FILE = _FileType(path_type=Path)


class CountType(click.ParamType[int]):
    """A whole number.

    Args:
        least: the smallest allowed.
        example: for the error message.
    """

    name = "N"

    def __init__(self, least: int, example: int) -> None:
        self.least, self.example = least, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            count = int(str(value))
        except ValueError:
            count = self.least - 1
        if count < self.least:
            self.fail(f"'{value}' is not a whole number from {self.least} on; give e.g. {self.example}", param, ctx)
        return count


class NumberType(click.ParamType[float]):
    """A finite number.

    Args:
        what: what is to be given, with its range, e.g. ``a percentage from 0 to 100``.
        fits: whether a number is in the range.
    """

    name = "NUMBER"

    def __init__(self, what: str, fits: Callable[[float], bool] = lambda number: True) -> None:
        self.what, self.fits = what, fits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not self.fits(number):
            self.fail(f"'{value}' is not {self.what}", param, ctx)
        return number


UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class NumbersType(click.ParamType[tuple[float, ...]]):
    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            if str(value).isupper():
                self.fail(f"'{value}' stands for the figures of the training, such as 0.485,0.456,0.406", param, ctx)
            self.fail(f"'{value}' is not a list of numbers; separate them by commas: 0.485,0.456,0.406", param, ctx)


class FractionType(click.ParamType[float]):
    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            self.fail(f"'{value}' is not a fraction; write 18% or 0.18", param, ctx)
        return number / 100 if text.endswith("%") or number > 1 else number


class BytesType(click.ParamType[int]):
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        factor = UNITS.get(text[-1:], 1)
        try:
            size = int(float(text[:-1] if factor > 1 else text) * factor)
        except (ValueError, OverflowError):
            size = 0
        if size <= 0:
            self.fail(f"'{value}' is not a size; write 8G, 512M or a number of bytes", param, ctx)
        return size


class ShapeType(click.ParamType[tuple[str, tuple[int, ...]]]):
    name = "[NAME:]1,3,224,224"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        name, _, text = str(value).rpartition(":")
        try:
            shape = tuple(int(part) for part in text.split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1 or (not name and ":" in str(value)):
            self.fail(f"'{value}' is not of the form NAME:1,3,224,224, or 1,3,224,224 for a single input", param, ctx)
        return name, shape


class RangeType(click.ParamType[tuple[str, tuple[float, float]]]):
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


class TeacherType(click.ParamType["Teacher | Path"]):
    name = "FILE[:PREPROCESS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Teacher | Path":
        from dfq_deploy.errors import OptionError
        from dfq_deploy.synthesis.teachers import parse_teacher

        try:
            return parse_teacher(str(value))
        except OptionError as problem:
            raise click.UsageError(str(problem)) from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]
