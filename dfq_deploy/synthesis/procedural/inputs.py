"""Rules for token ids, masks, lengths and scales."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, did_you_mean
from dfq_deploy.graph.index_tables import columns_of, table_of
from dfq_deploy.graph.inputs import (
    CHANNELS,
    ModelInput,
    closed_shape,
    has_batch_axis,
    input_values,
    looks_channels_last,
    main_input,
    model_inputs,
    sample_shape,
)
from dfq_deploy.graph.main_input import SAMPLE_RATE, says_auxiliary, says_cache, says_sample_rate, words_of
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.procedural.pictures import Pictures
from dfq_deploy.synthesis.procedural.sequences import Part, on_lengths, part_of

__all__ = ["InputRanges", "InputRule", "is_drawn", "refuse_unknown", "rule_of"]

InputRanges: TypeAlias = Mapping[str, tuple[float, float]]
"""Input name -> smallest and largest value to draw, both included."""

BESIDE = "a float input beside the main one"

NO_TABLE = "no table that it would index was found"

FEW = 4
"""More values than these are not written out."""

POSITION_WORDS = frozenset({"position", "positions", "pos"})


@dataclass(frozen=True)
class InputRule:
    """How one input is drawn.

    Args:
        port: the input.
        shape: of one sample.
        values: one value for each element of the last axis, or for all; None draws.
        low, high: least and greatest value drawn, uniformly; None, both, is a normal distribution.
        columns: greatest value of each element of the last axis, where they differ.
        why: where that comes from, for people.
        part: what it is in a sequence whose samples have varied lengths; None where it is in none.
        longest: the longest of them.
        is_picture: it has the shape of the pictures of the main input, and is drawn as they are.
        is_guess: integers of which nothing in the model tells the values.
    """

    port: ModelInput
    shape: tuple[int, ...]
    why: str
    values: tuple[float, ...] | None = None
    low: float | None = None
    high: float | None = None
    part: Part | None = None
    longest: int = 0
    is_picture: bool = False
    columns: tuple[int, ...] = ()
    is_guess: bool = False

    def draw(self, count: int, seed: int, preprocess: Preprocess | None = None) -> NDArray[Any]:
        """``(count, *shape)``, in the input's own type.

        The same seed gives the same values, and the same lengths to all inputs of a sequence.

        Args:
            preprocess: of pictures; None gives them mean 0 and deviation 1.
        """
        values = self._pictures(count, seed, preprocess) if self.is_picture else self._drawn(count, seed)
        return values if self.part is None else on_lengths(self.part, values, self.longest, seed)

    def _drawn(self, count: int, seed: int) -> NDArray[Any]:
        generator = np.random.default_rng([seed, *self.port.name.encode()])
        shape, dtype = (count, *self.shape), np.dtype(self.port.dtype)
        if self.values is not None:
            return np.broadcast_to(np.asarray(self.values), shape).astype(dtype)
        if self.low is None or self.high is None:
            return generator.standard_normal(shape).astype(dtype)
        if self.port.is_float:
            return generator.uniform(self.low, self.high, shape).astype(dtype)
        high = np.asarray(self.columns or int(self.high))
        return generator.integers(int(self.low), high, shape, endpoint=True).astype(dtype)

    def _pictures(self, count: int, seed: int, preprocess: Preprocess | None) -> NDArray[Any]:
        last = looks_channels_last(self.shape)
        channels, height, width = (self.shape[-1], *self.shape[:2]) if last else self.shape
        generator = np.random.default_rng([seed, *self.port.name.encode()])
        pictures = Pictures().draw(count, (channels, height, width), generator)
        if preprocess is None:
            pictures = (pictures - pictures.mean()) / (pictures.std() + np.float32(1e-6))
        else:
            preprocess.normalize(pictures)
        turned = pictures.transpose(0, 2, 3, 1) if last else pictures
        return np.ascontiguousarray(turned).astype(np.dtype(self.port.dtype))

    def __str__(self) -> str:
        """A sentence for the report."""
        if self.is_picture:
            what = "is drawn as pictures are"
        elif self.part is not None:
            drawn = "" if self.high is None else f"drawn from {self.low:g} to {self.high:g}, "
            what = f"is {drawn}{self.part.value}, for lengths from 1 to {self.longest}"
        elif self.values is not None:
            few, ends = len(self.values) <= FEW, f"{self.values[0]:g} to {self.values[-1]:g}, one after another"
            what = f"is {' x '.join(f'{value:g}' for value in self.values) if few else ends}"
        elif self.low is None or self.high is None:
            what = "is drawn from a normal distribution"
        else:
            what = f"is drawn from {self.low:g} to {self.high:g}"
        return f"input '{self.port.name}' {what} ({self.why}); --input-range {self.port.name}:LO,HI draws it otherwise"


def is_drawn(port: ModelInput) -> bool:
    """True for a main input that is neither made of floats nor a picture of bytes."""
    return not port.is_float and not (port.dtype == "uint8" and port.shape is not None and len(port.shape) == 4)


def rule_of(model: ir.Model, port: ModelInput, ranges: InputRanges) -> InputRule:
    """How an input of ``model`` is drawn.

    Rules, the first that applies: (1) the range that the caller states; (2) what belongs to a sequence with a mask is
    cut to the lengths of the samples (:mod:`dfq_deploy.synthesis.procedural.sequences`); (3) any other mask, or a bool,
    is all ones; (4) positions of tokens go on behind a cache; (5) what a Gather looks up in a constant table is an
    index of its rows; (6) a length is that of the main input's longest axis, and a sample rate is 16,000; (7) a scale
    is 1, and the size of a picture is that of the main input; (8) what has the shape of the main input's pictures is
    one of them; (9) other integers are 0 or 1, other floats normally distributed.

    Raises:
        ModelError: its size is open.
    """
    shape = _shape(model, port)
    if port.name in ranges:
        low, high = ranges[port.name]
        return InputRule(port, shape, "as --input-range says", low=low, high=high)
    table = None if port.is_float else table_of(model, port.name)
    found = part_of(port, model_inputs(model), ranges)
    if found is not None:
        return _in_sequence(port, shape, table, *found)
    fixed = _positions(model, port, shape, table) or _fixed(
        port, shape, main_input(model_inputs(model)), table is not None
    )
    if fixed is not None:
        return InputRule(port, shape, fixed[0], values=fixed[1])
    if table is not None:
        columns = columns_of(model, port.name, shape)
        tables = f"the rows of '{table[0]}'" if not columns else "the rows of the table that each column indexes"
        return InputRule(port, shape, tables, low=0, high=max(columns, default=table[1] - 1), columns=columns)
    if port.is_float:
        is_picture = _is_second_picture(model, port, shape)
        why = f"a picture as '{main_input(model_inputs(model)).name}' is" if is_picture else BESIDE
        return InputRule(port, shape, why, is_picture=is_picture)
    return InputRule(port, shape, NO_TABLE, low=0, high=1, is_guess=True)


def _is_second_picture(model: ir.Model, port: ModelInput, shape: tuple[int, ...]) -> bool:
    main = main_input(model_inputs(model))
    if not (port.is_float and main.is_float) or says_auxiliary(port.name) or port.use.carried or len(shape) != 3:
        return False
    return shape == sample_shape(model) and not {shape[0], shape[-1]}.isdisjoint(CHANNELS)


def _in_sequence(
    port: ModelInput, shape: tuple[int, ...], table: tuple[str, int] | None, part: Part, longest: int
) -> InputRule:
    top = 1 if table is None else table[1] - 1
    if part is Part.IDS:
        why = NO_TABLE if table is None else f"the rows of '{table[0]}'"
        return InputRule(port, shape, why, low=0, high=top, part=part, longest=longest, is_guess=table is None)
    values: tuple[float, ...] = (1.0,)
    why = "a mask" if part in (Part.MASK, Part.PADDING_MASK) else "a length"
    if part is Part.TYPES:
        values, why = (float(min(1, top)),), "token types"
    if part is Part.POSITIONS:
        last = longest - 1 if table is None else top
        values, why = tuple(float(min(step, last)) for step in range(longest)), "positions"
    return InputRule(port, shape, why, values=values, part=part, longest=longest)


def _positions(
    model: ir.Model, port: ModelInput, shape: tuple[int, ...], table: tuple[str, int] | None
) -> tuple[str, tuple[float, ...]] | None:
    """The positions of tokens whose mask is longer than they are: they go on behind the cache."""
    main = main_input(model_inputs(model))
    ids = not port.is_float and not main.is_float and not POSITION_WORDS.isdisjoint(words_of(port.name))
    if not ids or port == main or shape != sample_shape(model) or len(shape) != 1:
        return None
    pasts = {closed_shape(value)[1] for value in input_values(model) if _is_past(value)}
    begin = pasts.pop() if len(pasts) == 1 else 0
    last = begin + shape[0] - 1 if table is None else table[1] - 1
    return "positions behind the cache", tuple(float(min(begin + step, last)) for step in range(shape[0]))


def _is_past(value: ir.Value) -> bool:
    """True for the keys or values (N, heads, steps, size) of the steps before."""
    return says_cache(str(value.name)) and value.shape is not None and len(value.shape) == 4


def _fixed(
    port: ModelInput, shape: tuple[int, ...], main: ModelInput, indexes: bool
) -> tuple[str, tuple[float, ...]] | None:
    """Why an input has a value that needs no drawing, and which."""
    name = port.name.lower()
    sizes = [dim for dim in main.sample if dim is not None]
    if port.dtype == "bool" or "mask" in name:
        return "a mask that hides nothing", (1.0,)
    if "len" in name and not port.is_float and not indexes and sizes and port != main:
        return f"the longest axis of '{main.name}'", (float(max(sizes)),)
    if not port.is_float and shape in ((), (1,)) and says_sample_rate(port.name):
        return "a sample rate", (float(SAMPLE_RATE),)
    if "scale" in name and port.is_float:
        return "nothing is scaled", (1.0,)
    if ("shape" in name or "size" in name) and shape[-1:] == (2,) and len(sizes) == 3:
        height, width = sizes[:2] if looks_channels_last(sizes) else sizes[1:]
        return f"height and width of '{main.name}'", (float(height), float(width))
    return None


def _shape(model: ir.Model, port: ModelInput) -> tuple[int, ...]:
    value = next(value for value in input_values(model) if value.name == port.name)
    main = main_input(model_inputs(model))
    if not port.shape and port.shape is not None:
        return ()
    rest = closed_shape(value)
    if has_batch_axis(port, main) or port.name == main.name or port.shape is None or port.shape[0] is None:
        return rest
    return (port.shape[0], *rest)


def refuse_unknown(model: ir.Model, ranges: InputRanges) -> None:
    """Refuse a range for an input that is not there, or that is no range.

    Raises:
        ModelError: says which.
    """
    names = [port.name for port in model_inputs(model)]
    for name, (low, high) in ranges.items():
        if name not in names:
            way_out = did_you_mean(name, names, "the model's inputs")
            raise ModelError(f"no input '{name}' to give a range to{way_out}")
        if not low <= high:
            raise ModelError(f"input '{name}': range {low:g} to {high:g} holds nothing; write the smaller value first")
