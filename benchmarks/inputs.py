"""Inputs that no calibration has seen, of the kind that each model is made for; the same on every machine.

Photographs are the two that scikit-learn carries, in crops; text is drawn on them; tones are notes of a plucked
string by formula; bytes are those of the standard library's own files.
"""

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dfq_deploy import Samples
from dfq_deploy.graph.inputs import (
    has_batch_axis,
    is_channels_last,
    main_input,
    model_inputs,
    other_inputs,
    sample_shape,
)
from dfq_deploy.samples.preprocess import Preprocess

if TYPE_CHECKING:
    from benchmarks.models import Case

__all__ = ["make"]

WORDS = ("Calibration", "without data", "Exit 27", "OPEN 9-17", "Main Street", "No. 4711", "signal", "Bahnhof")
SEED = 20_000
"""Far from the seeds that synthesis is run with."""


def make(kind: str, model: ir.Model, case: "Case", count: int) -> Samples:
    """``count`` samples of a kind: photographs, texts, lines, greys, bands, tones, bytes_of_files or integers."""
    shape = sample_shape(model)
    rng = np.random.default_rng(SEED)
    ports = model_inputs(model)
    main = main_input(ports)
    if kind == "tones":
        count = max(count, (main.shape or (None,))[0] or 1)
        images = np.stack([_tone(rng, shape) for _ in range(count)])
    elif kind == "bytes_of_files":
        images = _bytes(count, shape[0])
    elif kind == "integers":
        low, high = case.ranges[main.name]
        images = rng.integers(int(low), int(high) + 1, (count, *shape)).astype(np.float32)
    elif is_channels_last(model):
        height, width, channels = shape
        preprocess = case.preprocess or Preprocess((0.0,) * channels, (1.0,) * channels)
        images = _pictures(kind, (channels, height, width), preprocess, count).transpose(0, 2, 3, 1)
    else:
        images = _pictures(kind, shape, case.preprocess or Preprocess((0.0,) * shape[0], (1.0,) * shape[0]), count)
    extra = {}
    for port in other_inputs(ports):
        low, high = case.ranges.get(port.name, (0, 0))
        dims = port.sample if has_batch_axis(port, main) else port.shape or ()
        size = (count, *(dim or 1 for dim in dims))
        extra[port.name] = rng.integers(int(low), int(high) + 1, size).astype(port.dtype)
    return Samples(images, extra=extra)


def _photograph(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A crop of a real photograph, between once and twice the size that is asked for where it is large enough."""
    from sklearn.datasets import load_sample_images

    photographs: list[NDArray[np.uint8]] = load_sample_images().images
    whole = photographs[int(rng.integers(len(photographs)))]
    factor = min(rng.uniform(1, 2), whole.shape[0] / height, whole.shape[1] / width)
    size = int(height * factor), int(width * factor)
    top, left = (int(rng.integers(whole.shape[axis] - size[axis] + 1)) for axis in (0, 1))
    crop = Image.fromarray(whole[top : top + size[0], left : left + size[1]])
    return crop.resize((width, height), Image.Resampling.BILINEAR)


def _pictures(kind: str, shape: tuple[int, ...], preprocess: Preprocess, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(SEED)
    channels, height, width = shape
    arrays = []
    for index in range(count):
        picture = _photograph(rng, height, width)
        if kind == "lines":
            picture = Image.new("RGB", (width, height), (235, 232, 225))
        if kind in ("texts", "lines"):
            _write(picture, rng, index, 1 if kind == "lines" else 4)
        pixels = np.asarray(picture, np.float32) / 255
        if channels in (1, 4):
            grey = pixels.mean(axis=2, keepdims=True)
            pixels = grey if channels == 1 else np.concatenate([pixels, grey], axis=2)
        arrays.append(pixels.transpose(2, 0, 1))
    mean, std = (np.asarray(part, np.float32).reshape(-1, 1, 1) for part in (preprocess.mean, preprocess.std))
    return ((np.stack(arrays) - mean) / std).astype(np.float32)


def _write(picture: Image.Image, rng: np.random.Generator, index: int, lines: int) -> None:
    """Words on the picture: one that fills it, or some all over it."""
    draw = ImageDraw.Draw(picture)
    size = int(0.6 * picture.height) if lines == 1 else picture.height // 12
    for line in range(lines):
        place = (6, int(0.15 * picture.height))
        if lines > 1:
            place = (int(rng.integers(picture.width // 2)), line * picture.height // lines + size // 2)
        color = (20, 20, 30) if lines == 1 or line % 2 else (250, 250, 240)
        draw.text(place, WORDS[(index + line) % len(WORDS)], color, font=ImageFont.load_default(size))


def _tone(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Some notes of decaying harmonics, with a little noise; at most 1."""
    length = int(np.prod(shape))
    time = np.arange(length) / 16_000
    wave = 0.003 * rng.normal(size=length)
    for _ in range(int(rng.integers(1, 5))):
        pitch, start = 110 * 2 ** (rng.integers(36) / 12), rng.uniform(0, 0.5) * time[-1]
        decay = np.exp(-4 * np.maximum(time - start, 0)) * (time >= start)
        wave += sum(np.sin(2 * np.pi * pitch * k * (time - start)) / k**1.5 for k in range(1, 8)) * decay
    scaled: NDArray[np.float32] = (0.8 * wave / np.abs(wave).max()).reshape(shape).astype(np.float32)
    return scaled


def _bytes(count: int, width: int) -> NDArray[np.float32]:
    """The first and the last bytes of files of the standard library, 256 where a file is shorter."""
    folder = os.path.dirname(os.__file__)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))[:count]
    rows = np.full((count, width), 256, np.float32)
    for row, name in zip(rows, names, strict=True):
        with open(os.path.join(folder, name), "rb") as stream:
            content = np.frombuffer(stream.read(), np.uint8)
        head, tail = content[: width // 2], content[-(width // 2) :]
        row[: len(head)], row[width - len(tail) :] = head, tail
    return rows
