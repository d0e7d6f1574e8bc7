"""Decode the outputs of a detector to boxes in pixels and class scores.

================= ======================================================================================
kind              boxes in the output
================= ======================================================================================
``corners``       x1, y1, x2, y2 in pixels or as shares of the input (SSD, YOLO-NAS)
``centers``       center x, y, width, height in pixels or as shares (YOLOv5, YOLOv8, DETR)
``cells``         shift of the center in cells, logarithm of the size in cells (YOLOX before its decoding)
``distances``     left, top, right, bottom in cells (SCRFD, FCOS)
``distributions`` the same, each as logits over bins (nanodet, GFL, picodet)
``anchors``       shift of the center, width and height in pixels; then landmarks (MediaPipe)
================= ======================================================================================

What the graph does not tell is read from the float model's values: corners or centers, pixels or shares, logits or
probabilities, a background among the classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.detection.boxes import Floats
from dfq_deploy.evaluation.detection.grids import anchor_points, grid_of
from dfq_deploy.graph.detection import HeadPart

__all__ = ["Decoder", "Kind", "columns", "decoder_for"]

Kind: TypeAlias = Literal["corners", "centers", "cells", "distances", "distributions", "anchors"]

Outputs: TypeAlias = Mapping[str, Floats]

SHARES = 2.0
"""Coordinates that are no larger than this are shares of the input."""

ORDERED = 0.99
"""Part of the boxes whose second corner lies behind the first one where boxes are corners."""

DISTANCES = 0.95
"""Part of the raw values that are not negative where they are distances."""


@dataclass(frozen=True)
class _Level:
    """The boxes and the scores of the same rows."""

    boxes: HeadPart
    scores: HeadPart
    kind: Kind


@dataclass(frozen=True)
class Decoder:
    """How the outputs of one detector are decoded.

    Args:
        levels: parts that belong together.
        size: height and width of the input.
        logits: scores are logits.
        background: the first class is no object.
        shares: boxes are shares of the input.
    """

    levels: tuple[_Level, ...]
    size: tuple[int, int]
    logits: bool
    background: bool
    shares: bool

    @property
    def kind(self) -> str:
        """How boxes are written."""
        return self.levels[0].kind

    def scores(self, outputs: Outputs) -> Floats:
        """Class scores (N, rows, classes), 0 to 1."""
        return np.concatenate([self._probabilities(outputs, level) for level in self.levels], axis=1)

    def boxes(self, outputs: Outputs) -> Floats:
        """Corners in pixels (N, rows, 4)."""
        return np.concatenate([self._corners(outputs, level) for level in self.levels], axis=1)

    def _probabilities(self, outputs: Outputs, level: _Level) -> Floats:
        raw = columns(outputs, level.scores)
        found = 1 / (1 + np.exp(-np.clip(raw, -80, 80))) if self.logits else raw
        if level.scores.objectness:
            return found[..., 1:] * found[..., :1]
        return found[..., 1:] if self.background else found

    def _corners(self, outputs: Outputs, level: _Level) -> Floats:
        raw = columns(outputs, level.boxes)
        height, width = self.size
        if level.kind in ("corners", "centers"):
            boxes = raw[..., :4] * (np.array([width, height] * 2) if self.shares else 1.0)
            return boxes if level.kind == "corners" else _around(boxes[..., :2], boxes[..., 2:])
        single = len(self.levels) > 1
        grid = grid_of(raw.shape[1], self.size, single=single, uniform=level.kind != "anchors")
        points, strides = anchor_points(grid, self.size, 0.0 if level.kind == "cells" else 0.5)
        if level.kind == "cells":
            return _around(points + raw[..., :2] * strides, np.exp(np.clip(raw[..., 2:4], -20, 20)) * strides)
        if level.kind == "anchors":
            return _around(points + raw[..., :2], raw[..., 2:4])
        distances = (raw[..., :4] if level.kind == "distances" else _expected(raw)) * strides
        return np.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def columns(outputs: Outputs, part: HeadPart) -> Floats:
    """The values of a part as (N, rows, columns)."""
    array = np.moveaxis(outputs[part.output].astype(np.float64), part.axis, -1)[..., part.start : part.stop]
    return array.reshape(len(array), -1, part.width)


def _around(centers: Floats, sizes: Floats) -> Floats:
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=-1)


def _expected(raw: Floats) -> Floats:
    """Expected bin of four distributions, of logits (..., 4 * bins)."""
    logits = raw.reshape(*raw.shape[:-1], 4, -1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    expected: Floats = (weights * np.arange(logits.shape[-1])).sum(axis=-1) / weights.sum(axis=-1)
    return expected


def decoder_for(parts: Sequence[HeadPart], outputs: Outputs, size: tuple[int, int]) -> Decoder:
    """The decoder of a detector.

    Args:
        parts: of its outputs (:func:`dfq_deploy.graph.detection.head_parts`).
        outputs: of the float model for some samples, each (N, ...).
        size: height and width of its input.

    Raises:
        ModelError: the form of its boxes is not known.
    """
    levels = [_leveled(boxes, scores, parts, outputs, size) for boxes, scores in _pairs(parts, outputs)]
    if not levels:
        raise ModelError("no boxes belong to the scores of this model; measure it with --metric FILE.py:FUNCTION")
    raw = np.concatenate([columns(outputs, level.scores).reshape(-1, level.scores.width) for level in levels])
    logits = bool(raw.min() < -0.01 or raw.max() > 1.01)
    background = not logits and raw.shape[1] > 1 and bool(np.allclose(raw.sum(axis=1), 1, atol=1e-2))
    objectness = any(level.scores.objectness for level in levels)
    largest = max(float(np.abs(columns(outputs, level.boxes)[..., :4]).max()) for level in levels)
    return Decoder(tuple(levels), size, logits, background and not objectness, largest <= SHARES)


def _pairs(parts: Sequence[HeadPart], outputs: Outputs) -> list[tuple[HeadPart, HeadPart]]:
    """Boxes and scores with the same rows: of one output, or of two."""
    boxes = [part for part in parts if part.role == "boxes"]
    found = []
    for scores in (part for part in parts if part.role == "scores"):
        rows = columns(outputs, scores).shape[1]
        own = [part for part in boxes if part.output == scores.output]
        match = own or [part for part in boxes if columns(outputs, part).shape[1] == rows]
        if match:
            found.append((match[0], scores))
    return found


def _leveled(
    boxes: HeadPart, scores: HeadPart, parts: Sequence[HeadPart], outputs: Outputs, size: tuple[int, int]
) -> _Level:
    raw = columns(outputs, boxes)
    if not boxes.raw:
        ordered = np.mean((raw[..., 2] >= raw[..., 0]) & (raw[..., 3] >= raw[..., 1])) >= ORDERED
        return _Level(boxes, scores, "corners" if ordered else "centers")
    several = len({part.output for part in parts if part.role == "scores"}) > 1
    uniform = grid_of(raw.shape[1], size, single=several)
    own = boxes.output == scores.output
    landmarks = not own and not several and scores.width == 1 and boxes.width > 4 and boxes.width % 2 == 0
    if uniform and own and boxes.width == 4 and uniform[0][1] == 1:
        return _Level(boxes, scores, "cells")
    if uniform and boxes.width == 4 and float(np.mean(raw >= 0)) >= DISTANCES:
        return _Level(boxes, scores, "distances")
    if uniform and not landmarks and boxes.width > 4 and boxes.width % 4 == 0 and uniform[0][1] == 1:
        return _Level(boxes, scores, "distributions")
    if landmarks and grid_of(raw.shape[1], size, uniform=False):
        return _Level(boxes, scores, "anchors")
    raise ModelError(
        f"the boxes in output '{boxes.output}' ({raw.shape[1]} rows of {boxes.width}) need anchors that are no part of "
        "the model; measure it with --metric FILE.py:FUNCTION, or export it with its decoding"
    )
