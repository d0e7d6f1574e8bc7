"""What image files were like before they became samples: how small, and how many bits they use."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Original", "Originals"]

MUCH = 2.0
"""Pictures that are enlarged by more than this are much smaller than the input."""

UNUSED = (8, 10, 12)
"""Depths of sensors, in bits: pictures of so few look almost black where 65535 is white."""

CLIPPED = 14
"""Pictures of so many are dark, as real ones of 16 bits may be: only those whose largest value is exactly that of this
depth were clipped there."""


@dataclass(frozen=True)
class Original:
    """One picture as it was found.

    Args:
        size: width and height in pixels, upright.
        largest: the largest value of a picture that is stored in 16 bits; None for 8 bits.
    """

    size: tuple[int, int]
    largest: int | None = None


@dataclass(frozen=True)
class Originals:
    """The pictures that samples were made of.

    Args:
        count: number of pictures.
        input_size: width and height of the model's input, in pixels.
        small: size of each picture that was enlarged by more than :data:`MUCH`, in the order of the samples.
        deep: number of pictures that are stored in 16 bits.
        largest: the largest value of these; 0 where there are none.
    """

    count: int
    input_size: tuple[int, int]
    small: tuple[tuple[int, int], ...] = ()
    deep: int = 0
    largest: int = 0

    @classmethod
    def of(cls, pictures: Sequence[Original], input_size: tuple[int, int]) -> "Originals":
        """Sum up pictures."""
        width, height = input_size
        small = tuple(
            picture.size for picture in pictures if max(width / picture.size[0], height / picture.size[1]) > MUCH
        )
        largest = [picture.largest for picture in pictures if picture.largest is not None]
        return cls(len(pictures), input_size, small, len(largest), max(largest, default=0))

    @property
    def note(self) -> str:
        """A sentence for the user on pictures that were enlarged; empty where there are none."""
        if not self.small:
            return ""
        least, most = (f"{width} x {height}" for width, height in _ends(self.small))
        sizes = least if least == most else f"{least} to {most}"
        width, height = self.input_size
        return (
            f"{len(self.small)} of {self.count} picture(s) are much smaller than the input of {width} x {height} and "
            f"were enlarged ({sizes} pixels): the model sees them blurred, and is less accurate on them than on others"
        )

    @property
    def bits(self) -> int | None:
        """How many bits the pictures of 16 bits use, all together; None where they use all, or nothing tells."""
        if not self.deep or not self.largest:
            return None
        if self.largest == 2**CLIPPED - 1:
            return CLIPPED
        return next((bits for bits in UNUSED if self.largest < 2**bits), None)


def _ends(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The least and the most of sizes, by their number of pixels."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return ordered[0], ordered[-1]
