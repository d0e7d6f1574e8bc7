"""Read and write TensorRT's calibration cache.

The format, as of files that TensorRT wrote::

    TRT-100300-EntropyCalibration2      TensorRT's version and the algorithm
    image: 3caa5555                     tensor name, then a float32 scale as 8 hex digits, most significant first

A scale is the largest magnitude over 127: integers are signed, and the zero point is 0. The name of a tensor may
contain a colon and a space itself; the last such pair on a line is the separator.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import ModelError
from dfq_deploy.files.atomic import atomic_file

__all__ = ["ENTROPY", "JETPACK", "MINMAX", "TYPE", "CalibrationCache", "version_number"]

TYPE = QuantType(8, signed=True, symmetric=True)
"""The only integer type of TensorRT's INT8 calibration."""

ENTROPY, MINMAX = "EntropyCalibration2", "MinMaxCalibration"
"""Names of the algorithms in the first line; TensorRT accepts a cache only for the calibrator of that name. trtexec
uses the first."""

JETPACK = "10.3.0"
"""TensorRT's version in JetPack 6.1 and 6.2, where calibration caches are used most."""

LARGEST_SCALE = float(np.finfo(np.float32).max)

HEADER = re.compile(r"TRT-([0-9A-Za-z.]+)-([0-9A-Za-z]+)")
# The format has eight digits, but some tools drop leading zeros.
DIGITS = re.compile(r"[0-9a-fA-F]{1,8}")


def version_number(version: str) -> str:
    """Return TensorRT's number for a version, as in the first line of a cache: 10.3.0 is 100300, 8.5.1 is 8501.

    Raises:
        ValueError: ``version`` does not begin with three numbers.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise ValueError(f"version_number: '{version}' is not a version of TensorRT, such as {JETPACK}")
    major, minor, patch = map(int, match.groups())
    return str(major * (10000 if major >= 10 else 1000) + minor * 100 + patch)


@dataclass(frozen=True)
class CalibrationCache:
    """The content of a calibration cache.

    Args:
        scales: tensor name -> scale, positive or zero, exact in float32; in the order of the file.
        version: TensorRT's number of its version.
        algorithm: :data:`ENTROPY`, :data:`MINMAX` or another algorithm of TensorRT.
    """

    scales: Mapping[str, float]
    version: str = version_number(JETPACK)
    algorithm: str = ENTROPY

    def __post_init__(self) -> None:
        if HEADER.fullmatch(self._header) is None:
            raise ValueError(f"CalibrationCache: '{self._header}' is not a valid first line of a calibration cache")
        for name, scale in self.scales.items():
            if not name or "\n" in name or "\r" in name:
                raise ModelError(f"tensor {name!r}: a calibration cache cannot store this name; rename it in the model")
            if not (0 <= scale <= LARGEST_SCALE and scale == float(np.float32(scale))):
                raise ValueError(f"CalibrationCache: the scale of '{name}' is {scale}, not a finite positive float32")

    @property
    def _header(self) -> str:
        return f"TRT-{self.version}-{self.algorithm}"

    @classmethod
    def of_ranges(
        cls, ranges: Mapping[str, Range], version: str = version_number(JETPACK), algorithm: str = ENTROPY
    ) -> "CalibrationCache":
        """Create the cache of ``ranges``: each scale covers the larger magnitude of its range."""
        scales = {name: float(Encoding.of_range(span, TYPE).scale) for name, span in ranges.items()}
        return cls(scales, version, algorithm)

    def range_of(self, name: str) -> Range:
        """Return the range that the integers of a tensor in this cache cover."""
        limit = self.scales[name] * TYPE.qmax
        return Range(-limit, limit)

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        lines = [self._header, *(f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items())]
        return "".join(f"{line}\n" for line in lines).encode()

    def write(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_file(path) as partial:
            partial.write_bytes(self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> "CalibrationCache":
        """Read a file.

        Raises:
            ModelError: the file cannot be read, or is not a valid cache; the message has the line number.
        """
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as problem:
            raise ModelError(f"{path}: the calibration cache cannot be read ({problem.strerror})") from None

    @classmethod
    def parse(cls, content: bytes, place: str = "calibration cache") -> "CalibrationCache":
        """Parse the cache in ``content``; ``place`` names it in errors.

        Raises:
            ModelError: it is not a valid cache; the message has the line number.
        """
        try:
            lines = content.decode().rstrip().split("\n")
        except UnicodeDecodeError:
            raise ModelError(f"{place}: not a calibration cache of TensorRT, which is text") from None
        header = HEADER.fullmatch(lines[0].rstrip())
        if header is None:
            raise ModelError(
                f"{place}, line 1: '{lines[0][:60]}' is not the first line of a calibration cache (TRT-100300-"
                f"{ENTROPY}); give the file that TensorRT's calibrator wrote"
            )
        scales: dict[str, float] = {}
        numbers: dict[str, int] = {}
        for number, line in enumerate(lines[1:], 2):
            name, scale = _entry(line.removesuffix("\r"), f"{place}, line {number}")
            if name in scales:
                raise ModelError(
                    f"{place}, line {number}: tensor '{name}' is already in line {numbers[name]}; delete one"
                )
            scales[name], numbers[name] = scale, number
        return cls(scales, *header.groups())


def _entry(line: str, place: str) -> tuple[str, float]:
    name, _, digits = line.rpartition(": ")
    if not name or DIGITS.fullmatch(digits) is None:
        raise ModelError(f"{place}: '{line[:60]}' is not 'name: 8 hex digits'; the file is damaged, calibrate again")
    (scale,) = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))
    if not math.isfinite(scale) or scale < 0:
        raise ModelError(
            f"{place}: tensor '{name}' has the scale {scale}; it was calibrated on NaN or infinity, calibrate again"
        )
    return name, scale
