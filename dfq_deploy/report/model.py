"""The report of a calibration: frozen sections, and their JSON.

A new section is a frozen dataclass and one more field of :class:`Report` with the default None; docs/formats.md lists
the sections and their keys. Whatever has ``to_json`` may be a section, and a section that is None is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.answers import SampleAnswers
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.tensors import TensorDistance
from dfq_deploy.evaluation.weight_channels import WeightChannels
from dfq_deploy.report.run import RunSection
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.verdict.agreement.measure import Agreement
from dfq_deploy.verdict.finding import Verdict
from dfq_deploy.verdict.noise.what_hurts import WhatHurts

__all__ = [
    "SCHEMA_VERSION",
    "CalibrationSection",
    "FloatNode",
    "ModelSection",
    "QuantizedSection",
    "Report",
    "SamplesSection",
    "Section",
    "TargetSection",
    "TensorRow",
    "plain",
]

SCHEMA_VERSION = 1
"""Of report.json: raised when a key changes its meaning or goes, not when one is added."""


@runtime_checkable
class Section(Protocol):
    """A part of the report that says itself how it stands in JSON."""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        ...


def plain(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses and mappings as dicts, sequences as lists, NumPy's numbers as Python's."""
    if isinstance(value, Section):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class ModelSection:
    """The float model: its name, its size in bytes, the number of its parameters, its constants by type in bytes."""

    name: str
    file_bytes: int
    parameters: int
    bytes_by_type: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizedSection:
    """The quantized file: its name, its size in bytes with external data, its constants by type in bytes."""

    name: str
    file_bytes: int
    bytes_by_type: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetSection:
    """What it was quantized for."""

    name: str
    runtime: str


@dataclass(frozen=True)
class SamplesSection:
    """The samples.

    Args:
        method: what made them; ``data`` for real ones.
        count, held_out: all of them, and those that nothing was calibrated on.
        figures: of their quality, by name.
        shape: of one sample of the main input.
        size_chosen: whether that is a guess, since the file leaves sizes open and nothing states them.
    """

    method: str
    count: int
    held_out: int
    seed: int
    preprocess: Preprocess | None
    figures: Mapping[str, float]
    shape: tuple[int, ...] = ()
    size_chosen: bool = False


@dataclass(frozen=True)
class CalibrationSection:
    """How encodings were found.

    Args:
        method: the calibrator.
        bits: widths of weights and activations, e.g. ``w8a8``.
        refine: names of the refinements.
        headroom: what measured ranges were multiplied by.
        details: everything else that only some calibrations have, by name: ``known_ranges``, the allocation of mixed
            widths, the recipe of a training. In JSON it stands beside the rest.
    """

    method: str
    bits: str
    refine: tuple[str, ...]
    headroom: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> "CalibrationSection":
        """The section of what the steps have chosen, by name."""
        own = {"method", "bits", "refine", "headroom"}
        details = {name: value for name, value in choices.items() if name not in own}
        return cls(choices["method"], choices["bits"], tuple(choices["refine"]), choices["headroom"], details)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        own = {"method": self.method, "bits": self.bits, "refine": list(self.refine), "headroom": self.headroom}
        return {**own, **plain(self.details)}


@dataclass(frozen=True)
class TensorRow:
    """One quantized tensor.

    Args:
        kind: ``activation`` or ``weight``.
        type: e.g. ``u8``.
        low, high: ends of what the integers can hold.
        scale: one number, or the smallest and the largest of the channels.
        distance: float against quantized, where it was measured.
    """

    name: str
    kind: str
    type: str
    low: float
    high: float
    scale: float | tuple[float, float]
    distance: TensorDistance | None = None

    @classmethod
    def of(cls, name: str, kind: str, encoding: Encoding, distance: TensorDistance | None = None) -> "TensorRow":
        """The row of a tensor with its encoding."""
        span, scales = encoding.range, encoding.scale.reshape(-1)
        scale = float(scales[0]) if scales.size == 1 else (float(scales.min()), float(scales.max()))
        return cls(name, kind, str(encoding.qtype), span.low, span.high, scale, distance)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; the figures of the distance stand beside the rest."""
        own = {entry.name: plain(getattr(self, entry.name)) for entry in fields(self) if entry.name != "distance"}
        return own if self.distance is None else {**own, **self.distance.to_json()}


@dataclass(frozen=True)
class FloatNode:
    """A node that stays in float, and why."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, eq=False)
class Report(Mapping[str, Any]):
    """Everything that a calibration or a training has to say of its result.

    Sections are attributes: ``report.comparison.scores``. As a mapping it is what report.json holds:
    ``report["comparison"]["agreement"]``.

    Args:
        version: of this package.
        comparison: float against quantized on held-out samples.
        tensors: one row for each encoding, in the graph's order.
        left_float: convolutions and matrix products that stay in float.
        notes: sentences that call for nothing.
        warnings: sentences that should be read.
        verdict: the last word: ``OK``, ``CHECK`` or ``BAD``, its reason, the next command, and all findings.
        agreement: on held-out inputs of each kind, and what to expect on real ones.
        noise: each layer's own noise at the outputs, with causes and remedies for the worst.
        kernels: the layers that run in integers.
        remedies: what was tried to reach the floor (:class:`dfq_deploy.pipeline.remedies.steps.Remedies`).
        engine: what a compiler made of the file, with each of its layers, where one is installed.
        integer_io: float against the model for bytes, where it was asked for.
        weights: the channels of each quantized weight.
        answers: what both models say to the samples that are shown.
        run: how the result was made.
        compared: with another run's report (:func:`dfq_deploy.report.compared.compared`), where that was asked for.
        seconds: by step.
        files: name of each file that was written -> what it is.
        schema_version: of the JSON.
    """

    version: str
    model: ModelSection
    quantized: QuantizedSection
    target: TargetSection
    samples: SamplesSection
    calibration: CalibrationSection
    comparison: Comparison
    tensors: tuple[TensorRow, ...]
    left_float: tuple[FloatNode, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    agreement: Agreement | None = None
    noise: WhatHurts | None = None
    kernels: KernelCount | None = None
    remedies: Section | None = None
    engine: Mapping[str, Any] | None = None
    integer_io: Comparison | None = None
    weights: tuple[WeightChannels, ...] | None = None
    answers: tuple[SampleAnswers, ...] | None = None
    run: RunSection | None = None
    compared: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] | None = None
    files: Mapping[str, str] | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """What report.json holds; sections that are None are left out."""
        return dict(self._plain)

    @cached_property
    def _plain(self) -> dict[str, Any]:
        sections = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        known = {name: plain(value) for name, value in sections.items() if value is not None}
        return {"schema_version": known.pop("schema_version"), **known}

    def __getitem__(self, key: str) -> Any:
        return self._plain[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)
