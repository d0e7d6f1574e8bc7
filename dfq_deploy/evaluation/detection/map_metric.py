"""Mean average precision of the float and the quantized model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.evaluation.detection.annotations import Annotations
from dfq_deploy.evaluation.detection.average_precision import AveragePrecision, Truth, average_precision
from dfq_deploy.evaluation.detection.boxes import Detections, Floats, suppress
from dfq_deploy.evaluation.detection.decoder import Decoder, decoder_for
from dfq_deploy.evaluation.own_metric import MetricFigures
from dfq_deploy.graph.detection import HeadPart
from dfq_deploy.graph.inputs import looks_channels_last
from dfq_deploy.runtime.runner import Output

__all__ = ["MAP", "DetectionFigures", "DetectionTally", "check_metric"]

MAP = "map"
"""The name of this metric for ``--metric``."""

LEAST_SCORE = 0.01
"""Lower scores are no detections."""

OVERLAP = 0.6
"""Boxes of one class that overlap by more are one object."""

CONFIDENT = 0.25
"""Detections of the float model with this score or more are objects, where there are no true ones."""


@dataclass(frozen=True, kw_only=True)
class DetectionFigures(MetricFigures):
    """Mean average precision at overlaps of 0.5 to 0.95, 0 to 1.

    Args:
        float_50, quantized_50: at an overlap of 0.5.
        objects: how many there are in the samples.
        against: ``annotations``, or ``float`` where the float model's own detections are the objects.
        kind: how boxes are written (:mod:`dfq_deploy.evaluation.detection.decoder`).
    """

    float_50: float
    quantized_50: float
    objects: int
    against: str
    kind: str

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        own = {"float_50": self.float_50, "quantized_50": self.quantized_50, "objects": self.objects}
        return {**super().to_json(), **own, "against": self.against, "boxes": self.kind}


@dataclass
class DetectionTally:
    """Detections of both models, slice by slice.

    Args:
        parts: of the outputs (:func:`dfq_deploy.graph.detection.head_parts`).
        names: of the outputs, in order.
        size: height and width of the input.
    """

    parts: Sequence[HeadPart]
    names: Sequence[str]
    size: tuple[int, int]
    decoder: Decoder | None = None
    found: tuple[list[Detections], list[Detections]] = field(default_factory=lambda: ([], []))
    classes: int = 0

    @classmethod
    def of(cls, parts: Sequence[HeadPart], names: Sequence[str], sample_shape: Sequence[int]) -> "DetectionTally":
        """Of a model that takes samples of this shape.

        Raises:
            ModelError: it is no detector, or takes no images.
        """
        shape = tuple(sample_shape)
        if not parts or len(shape) != 3:
            raise ModelError(
                f"--metric map: no outputs of the float model ({', '.join(names)}) are known to be boxes and scores of "
                "the same rows; give --metric FILE.py:FUNCTION"
            )
        return cls(parts, names, shape[:2] if looks_channels_last(shape) else shape[1:])

    def add(self, wanted: Sequence[Output], given: Sequence[Output]) -> None:
        """Decode the outputs of the float and the quantized model for the same samples.

        Raises:
            ModelError: the form of the boxes is not known.
        """
        pair = self._rows(wanted), self._rows(given)
        if self.decoder is None:
            self.decoder = decoder_for(self.parts, pair[0], self.size)
        for outputs, found in zip(pair, self.found, strict=True):
            scores, boxes = self.decoder.scores(outputs), self.decoder.boxes(outputs)
            self.classes = scores.shape[2]
            for one in zip(boxes, scores, strict=True):
                found.append(suppress(*one, least_score=LEAST_SCORE, overlap=OVERLAP))

    def _rows(self, outputs: Sequence[Output]) -> Mapping[str, Floats]:
        wanted = {part.output for part in self.parts}
        rows = {name: array for name, array in zip(self.names, outputs, strict=True) if name in wanted}
        found = {name: array for name, array in rows.items() if not isinstance(array, tuple)}
        if len(found) < len(rows):
            raise ModelError("--metric map needs outputs with a row for each sample; give --metric FILE.py:FUNCTION")
        return found

    def figures(self, annotations: Annotations | None) -> DetectionFigures:
        """Mean average precision of both models against the true boxes, or against those of the float model.

        Raises:
            OptionError: there are no true boxes, and the float model detects nothing.
            SamplesError: the classes of the annotations do not fit the model.
        """
        truths = self._own() if annotations is None else annotations.truths(self.size, self.classes)
        results: list[AveragePrecision] = [average_precision(truths, found) for found in self.found]
        return DetectionFigures(
            "mAP", results[0].mean, results[1].mean, float_50=results[0].at_50, quantized_50=results[1].at_50,
            objects=results[0].objects, against="float" if annotations is None else "annotations",
            kind="" if self.decoder is None else self.decoder.kind,
        )  # fmt: skip

    def _own(self) -> Sequence[Truth]:
        truths = [_as_truth(one.above(CONFIDENT)) for one in self.found[0]]
        if not any(len(truth.classes) for truth in truths):
            best = max((float(one.scores[:1].sum()) for one in self.found[0]), default=0.0)
            raise OptionError(
                f"--metric map: the float model detects nothing in these {len(truths)} samples (highest score "
                f"{best:.2g}, {CONFIDENT:g} is an object); give images that show its objects with --data"
            )
        return truths


def _as_truth(found: Detections) -> Truth:
    return Truth(np.asarray(found.boxes), found.classes)


def check_metric(metric: object, annotations: object, data: object) -> None:
    """Refuse a metric that there is not, and annotations without what they belong to.

    Raises:
        OptionError: as it says.
    """
    if isinstance(metric, str) and metric != MAP:
        raise OptionError(f"--metric {metric}: no such metric; give map, or FILE.py:FUNCTION")
    if annotations is not None and metric != MAP:
        raise OptionError("--annotations are for --metric map")
    if annotations is not None and not isinstance(data, str | PathLike):
        raise OptionError("--annotations belong to images; give their folder or zip with --data")
