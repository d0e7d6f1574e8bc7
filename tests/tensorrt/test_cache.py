"""TensorRT's calibration cache, byte for byte."""

from pathlib import Path

import numpy as np
import pytest

from dfq_deploy.encodings import Range
from dfq_deploy.errors import ModelError
from dfq_deploy.runtime.tensorrt.cache import MINMAX, CalibrationCache, version_number

# 0.5 is sign 0, exponent 126, fraction 0: 0x3f000000. 1/127 rounds to 0x3c010204, which is also what caches of
# TensorRT 10.3 hold for an input of 0 to 1. 20.8125 = 1.30078125 * 2^4: exponent 131, fraction 0x268000.
FILE = b"""TRT-8501-EntropyCalibration2
images: 3c010204
/model.0/conv/Conv_output_0: 3f000000
tower: left: 41a68000
(Unnamed Layer* 48) [Constant]_output: 00000000
"""
SCALES = {
    "images": float(np.float32(1 / 127)),
    "/model.0/conv/Conv_output_0": 0.5,
    "tower: left": 20.8125,
    "(Unnamed Layer* 48) [Constant]_output": 0.0,
}


def test_a_file_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "old.cache").write_bytes(FILE)
    cache = CalibrationCache.read(tmp_path / "old.cache")
    assert (cache.version, cache.algorithm) == ("8501", "EntropyCalibration2")
    assert dict(cache.scales) == SCALES
    assert list(cache.scales) == list(SCALES)
    cache.write(tmp_path / "new.cache")
    assert (tmp_path / "new.cache").read_bytes() == FILE


def test_ranges_become_scales_of_their_larger_magnitude_over_127() -> None:
    ranges = {"a": Range(0.0, 1.0), "b: c": Range(-63.5, 2.0), "d": Range(3.0, 127 * 20.8125)}
    cache = CalibrationCache.of_ranges(ranges, algorithm=MINMAX)
    assert cache.to_bytes() == b"TRT-100300-MinMaxCalibration\na: 3c010204\nb: c: 3f000000\nd: 41a68000\n"
    assert cache.range_of("b: c") == Range(-63.5, 63.5)


def test_other_line_ends_and_dropped_zeros_are_read() -> None:
    content = FILE.replace(b"\n", b"\r\n").replace(b"00000000", b"0").rstrip()
    assert CalibrationCache.parse(content) == CalibrationCache.parse(FILE)


@pytest.mark.parametrize(
    ("version", "number"),
    [("10.3.0", "100300"), ("10.16.1.11", "101601"), ("8.5.1", "8501"), ("7.1.3", "7103"), ("8.4.0.6", "8400")],
)
def test_versions_are_numbered_as_tensorrt_numbers_them(version: str, number: str) -> None:
    assert version_number(version) == number


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^version_number: 'ten' is not a version of TensorRT, such as 10\.3\.0$"):
        version_number("ten")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "c, line 1: '' is not the first line of a calibration cache"),
        (b"1\nx: 3f000000\n", "c, line 1: '1' is not the first line of a calibration cache"),
        (b"TRT-8501-EntropyCalibration2\nx: 3f000000\ny 3f000000\n", "c, line 3: 'y 3f000000' is not 'name: 8 hex"),
        (b"TRT-8501-EntropyCalibration2\nx: 3f00000g\n", "c, line 2: 'x: 3f00000g' is not 'name: 8 hex"),
        (b"TRT-8501-EntropyCalibration2\nx: 3f0000000\n", "c, line 2: 'x: 3f0000000' is not 'name: 8 hex"),
        (b"TRT-8501-EntropyCalibration2\nx: \n", "c, line 2: 'x:' is not 'name: 8 hex"),
        (b"TRT-8501-EntropyCalibration2\nx: 3f000000\n\ny: 3f000000\n", "c, line 3: '' is not 'name: 8 hex"),
        (b"TRT-8501-EntropyCalibration2\n: 3f000000\n", "c, line 2: ': 3f000000' is not 'name: 8 hex"),
        (
            b"TRT-8501-EntropyCalibration2\nx: 3f000000\ny: 3f000000\nx: 3f000001\n",
            "c, line 4: tensor 'x' is already in line 2; delete one",
        ),
        (b"TRT-8501-EntropyCalibration2\nx: 7fc00000\n", "c, line 2: tensor 'x' has the scale nan;"),
        (b"TRT-8501-EntropyCalibration2\nx: 7f800000\n", "c, line 2: tensor 'x' has the scale inf;"),
        (b"TRT-8501-EntropyCalibration2\nx: bf000000\n", "c, line 2: tensor 'x' has the scale -0.5;"),
        (b"\xff\xfe", "c: not a calibration cache of TensorRT, which is text"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        CalibrationCache.parse(content, "c")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no\.cache: the calibration cache cannot be read \(No such file or dir"):
        CalibrationCache.read(tmp_path / "no.cache")


def test_a_name_that_would_break_the_file_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^tensor 'a\\nb': a calibration cache cannot store this name; rename it"):
        CalibrationCache({"a\nb": 1.0})


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e39, 0.1])
def test_a_scale_that_is_no_positive_float32_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^CalibrationCache: the scale of 'x' is "):
        CalibrationCache({"x": scale})
