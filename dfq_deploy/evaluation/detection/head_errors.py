"""Compare the head of a detector: boxes and scores of float and quantized model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.detection.boxes import Floats, paired_overlaps
from dfq_deploy.evaluation.detection.decoder import Decoder, columns, decoder_for
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.detection import HeadPart, Role
from dfq_deploy.graph.inputs import looks_channels_last

__all__ = ["HeadErrors", "HeadTally"]

BEST = 50
"""Anchors of each sample that are looked at closely: those with the highest scores in float."""

LEAST = 0.01
"""Scores below are no detection at any threshold: smaller ones count as this one."""


@dataclass(frozen=True)
class HeadErrors:
    """Boxes and scores of a detector, float against quantized, apart from each other.

    Args:
        boxes_snr, scores_snr: signal to noise in dB over all anchors.
        overlap: mean intersection over union of the two boxes of each of the 50 anchors with the highest scores of a
            sample, 0 to 1; None where boxes cannot be decoded.
        best_float, best_quantized: highest score of a sample, in the mean.
        shift: how far a score of 0.5 moves: a quarter of the root mean square difference of the logits of these
            anchors' scores; None where no score reaches 0.01 in float.
    """

    boxes_snr: float
    scores_snr: float
    overlap: float | None
    best_float: float
    best_quantized: float
    shift: float | None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        return {
            "boxes_snr_db": finite(self.boxes_snr),
            "scores_snr_db": finite(self.scores_snr),
            "box_overlap": self.overlap,
            "best_score_float": self.best_float,
            "best_score_quantized": self.best_quantized,
            "score_shift": self.shift,
        }


@dataclass
class HeadTally:
    """Sums for :class:`HeadErrors`.

    Args:
        parts: of the outputs.
        size: height and width of the input; None where it is no image.
    """

    parts: Sequence[HeadPart]
    size: tuple[int, int] | None
    tallies: dict[Role, OutputTally] = field(default_factory=lambda: {"boxes": OutputTally(), "scores": OutputTally()})
    overlaps: list[float] = field(default_factory=list)
    best: list[NDArray[np.float64]] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    decoder: Decoder | None = None
    undecoded: bool = False

    @classmethod
    def of(cls, parts: Sequence[HeadPart], sample_shape: Sequence[int]) -> "HeadTally | None":
        """None for a model that is no detector."""
        if not parts:
            return None
        shape = tuple(sample_shape)
        if len(shape) != 3:
            return cls(parts, None)
        return cls(parts, shape[:2] if looks_channels_last(shape) else shape[1:])

    def add(self, wanted: Mapping[str, Floats], given: Mapping[str, Floats]) -> None:
        """Count one slice: outputs of both models by name, each (N, ...)."""
        if any(part.output not in wanted or part.output not in given for part in self.parts):
            return
        if not self.undecoded and self.decoder is None:
            self.undecoded = self.size is None
            try:
                self.decoder = None if self.size is None else decoder_for(self.parts, wanted, self.size)
            except ModelError:
                self.undecoded = True
        for part in self.parts:
            self.tallies[part.role].add(columns(wanted, part), columns(given, part))
        if self.decoder is not None:
            self._add_best(self.decoder, wanted, given)

    def _add_best(self, decoder: Decoder, wanted: Mapping[str, Floats], given: Mapping[str, Floats]) -> None:
        expected, found = decoder.scores(wanted), decoder.scores(given)
        rows = expected.shape[1]
        self.best.append(np.stack([scores.reshape(len(scores), -1).max(axis=1) for scores in (expected, found)]))
        order = np.argsort(-expected.max(axis=2), axis=1)[:, : min(BEST, rows)]
        boxes = [np.take_along_axis(decoder.boxes(outputs), order[..., None], axis=1) for outputs in (wanted, given)]
        self.overlaps += paired_overlaps(*boxes).mean(axis=1).tolist()
        pairs = [np.take_along_axis(scores, order[..., None], axis=1).reshape(-1) for scores in (expected, found)]
        seen = pairs[0] >= LEAST
        clipped = [np.clip(pair[seen], LEAST, 1 - LEAST) for pair in pairs]
        logits = [np.log(pair / (1 - pair)) for pair in clipped]
        self.squares += np.square(logits[0] - logits[1]).tolist()

    def errors(self) -> HeadErrors:
        """What the sums give."""
        best = np.concatenate(self.best, axis=1).mean(axis=1) if self.best else (math.nan, math.nan)
        return HeadErrors(
            self.tallies["boxes"].distance("").snr,
            self.tallies["scores"].distance("").snr,
            float(np.mean(self.overlaps)) if self.overlaps else None,
            float(best[0]),
            float(best[1]),
            math.sqrt(float(np.mean(self.squares))) / 4 if self.squares else None,
        )
