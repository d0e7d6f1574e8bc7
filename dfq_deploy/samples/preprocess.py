"""Preprocessing: ``(pixel / 255 - mean) / std``, channel by channel."""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import ModelError, OptionError, SamplesError, did_you_mean, one_line
from dfq_deploy.files.json_text import parsed_json

__all__ = ["PREPROCESS", "PREPROCESSES", "Preprocess", "as_preprocess", "divided_by_255", "preprocess_of_units"]

WIDENING_FACTORS = np.linspace(1, 1.02, 21)
"""Factors that are tried for a range whose exact integers represent pixels badly."""

WORTHWHILE_ERROR = 0.5
"""A wider range is used only if its squared error is below this fraction of the exact range's."""


PREPROCESS = "dfq_deploy.preprocess"
"""Key of a model's metadata with the normalization of its main input as JSON: ``{"mean": [...], "std": [...]}``."""


@dataclass(frozen=True)
class Preprocess:
    """Normalization of pixels: ``(pixel / 255 - mean) / std``.

    Args:
        mean, std: per channel, in units of pixel / 255; a single value applies to all channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise OptionError(
                f"preprocess: {len(self.mean)} mean(s) and {len(self.std)} std(s); give one std for each mean"
            )
        if min(self.std) <= 0 or not np.isfinite([*self.mean, *self.std]).all():
            raise OptionError(f"preprocess: std must be positive and all values finite, got {self.mean}, {self.std}")

    def __str__(self) -> str:
        """For people: ``mean 0.5, 0.5, 0.5, std 0.2, 0.2, 0.2``."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}"

    @property
    def options(self) -> tuple[str, ...]:
        """The words of the command line that give it: ``--preprocess NAME``, or ``--mean M --std S``."""
        name = next((name for name, known in PREPROCESSES.items() if known == self), None)
        if name is not None:
            return "--preprocess", name
        mean, std = (",".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return "--mean", mean, "--std", std

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Preprocess | None":
        """Read the metadata of a model; None if it does not say.

        Raises:
            ModelError: the entry is not what :meth:`state_in` writes.
        """
        try:
            entry = parsed_json(metadata[PREPROCESS]) if PREPROCESS in metadata else None
            return None if entry is None else cls(*(tuple(map(float, entry[key])) for key in ("mean", "std")))
        except (ValueError, TypeError, KeyError, OverflowError, OptionError) as problem:
            raise ModelError(
                f"the model's metadata '{PREPROCESS}' cannot be read ({one_line(problem, 100)}); remove that entry"
            ) from None

    def state_in(self, metadata: MutableMapping[str, str]) -> None:
        """Write it into the metadata of a model."""
        metadata[PREPROCESS] = json.dumps({"mean": self.mean, "std": self.std})

    def bounds(self, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the model's input for a black and for a white pixel: two float32 (channels,).

        Raises:
            SamplesError: the number of means is neither 1 nor ``channels``.
        """
        if len(self.mean) not in (1, channels):
            raise SamplesError(
                f"preprocess has {len(self.mean)} channels and the model's input has {channels}; "
                "give one mean and std, or one for each channel"
            )
        mean, std = (np.resize(np.asarray(v, np.float64), channels) for v in (self.mean, self.std))
        return (-mean / std).astype(np.float32), ((1 - mean) / std).astype(np.float32)

    def range(self, channels: int) -> Range:
        """Return the range of the model's input over all channels."""
        low, high = self.bounds(channels)
        return Range(float(low.min()), float(high.max()))

    def range_for(self, channels: int, qtype: QuantType) -> Range:
        """Return the range, widened by up to 2 % if pixel values lie halfway between its integers.

        This happens with the common normalization to [-1, 1]: zero, which an integer represents exactly, lies halfway
        between two pixels, so all pixels lie halfway between two integers of the exact range. Each then has an error of
        half a step, three times the squared error of any other range, and runtimes that round halves differently
        compute different outputs.
        """
        exact = self.range(channels)
        low, high = self.bounds(channels)
        values = low + np.arange(256, dtype=np.float32)[:, None] / 255 * (high - low)
        errors = np.empty(len(WIDENING_FACTORS))
        for index, factor in enumerate(WIDENING_FACTORS):
            encoding = Encoding.of_range(Range(exact.low * factor, exact.high * factor), qtype)
            errors[index] = np.square(encoding.dequantize(encoding.quantize(values)) - values).mean()
        best = int(errors.argmin())
        factor = WIDENING_FACTORS[best] if errors[best] < WORTHWHILE_ERROR * errors[0] else 1.0
        return Range(exact.low * factor, exact.high * factor)

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert uint8 (N, H, W, C) to the model's float32 (N, C, H, W)."""
        low, high = self.bounds(images.shape[-1])
        scaled = images.astype(np.float32) / 255 * (high - low) + low
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def normalize(self, pictures: NDArray[np.float32]) -> None:
        """Convert pixels of 0 to 1, float32 (N, C, H, W), to the model's input, in place.

        Raises:
            SamplesError: as :meth:`bounds`.
        """
        low, high = (bound[:, None, None] for bound in self.bounds(pictures.shape[1]))
        pictures *= high - low
        pictures += low

    def pixels(self, inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Convert the model's float32 (N, C, H, W) back to uint8 (N, H, W, C), clipped."""
        low, high = (b[:, None, None] for b in self.bounds(inputs.shape[1]))
        scaled = np.clip((inputs - low) / (high - low), 0, 1) * 255
        return np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1))


def divided_by_255(preprocess: Preprocess) -> Preprocess | None:
    """Convert mean and std in units of 0 to 255 to units of pixel / 255; None if they are in these units already.

    A mean of values from 0 to 1 is at most 1, and a standard deviation at most 0.5: a deviation up to that is assumed
    to be in units of pixel / 255.
    """
    if max(preprocess.mean) <= 1:
        return None
    std = preprocess.std if max(preprocess.std) <= 0.5 else tuple(value / 255 for value in preprocess.std)
    return Preprocess(tuple(value / 255 for value in preprocess.mean), std)


def preprocess_of_units(mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
    """Create the preprocess for mean and std from the command line.

    Raises:
        OptionError: they are not valid, or in units of 0 to 255; the message has the converted values.
    """
    preprocess = Preprocess(mean, std)
    divided = divided_by_255(preprocess)
    if divided is None:
        return preprocess
    raise OptionError(
        f"mean {_command_line_numbers(mean)} is in units of 0 to 255, but pixel / 255 is expected; divide by 255: "
        f"--mean {_command_line_numbers(divided.mean)} --std {_command_line_numbers(divided.std)}"
    )


def _command_line_numbers(values: tuple[float, ...]) -> str:
    """Format numbers for the command line."""
    return ",".join(f"{value:.4g}" for value in values)


PREPROCESSES: dict[str, Preprocess] = {
    "imagenet": Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Preprocess((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "zero-one": Preprocess((0.0,), (1.0,)),
    "minus-one-one": Preprocess((0.5,), (0.5,)),
    "raw": Preprocess((0.0,), (1 / 255,)),
}
"""Names for ``--preprocess``; ``raw`` is for models whose input is 0 to 255."""


def as_preprocess(value: Preprocess | str | None) -> Preprocess | None:
    """Convert a name of :data:`PREPROCESSES`, or ``MEANS/STDS`` such as ``0.5,0.5,0.5/0.2,0.2,0.2``, to a preprocess.

    Raises:
        OptionError: the text has neither form.
    """
    if value is None or isinstance(value, Preprocess):
        return value
    if isinstance(value, str) and value in PREPROCESSES:
        return PREPROCESSES[value]
    try:
        means, stds = (tuple(float(part) for part in side.split(",")) for side in str(value).split("/"))
    except ValueError:
        raise OptionError(
            f"preprocess: '{value}' is unknown{did_you_mean(str(value), PREPROCESSES, 'choose one of')}; means and "
            "standard deviations are written 0.5,0.5,0.5/0.2,0.2,0.2"
        ) from None
    return Preprocess(means, stds)
