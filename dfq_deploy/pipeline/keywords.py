"""The keywords of the steps: the fields of their option groups, and the refusal of others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from dfq_deploy.files.paths import AnyPath
from dfq_deploy.graph.inputs import InputShapes
from dfq_deploy.quantization.dynamic import Activations
from dfq_deploy.synthesis.teachers import TeacherSource

if TYPE_CHECKING:
    from dfq_deploy.synthesis.procedural.inputs import InputRanges

__all__ = ["CalibrationKeywords", "FinetuneKeywords", "SynthesisKeywords", "refuse_unknown"]


class _InputKeywords(TypedDict, total=False):
    input_shape: tuple[int, ...] | None
    input_shapes: InputShapes | None
    input_ranges: "InputRanges | None"
    fix_shapes: bool
    main_input: str | None
    task: str | None


class _SynthesisKeywords(TypedDict, total=False):
    teachers: "Sequence[TeacherSource]"
    count: int | None
    verifier: "TeacherSource | None"
    tolerance: float | str | None
    statistics: str | None


class _ResumeKeywords(TypedDict, total=False):
    unfinished: AnyPath | None
    resume: bool


class _OverrideKeywords(TypedDict, total=False):
    keep_float: Sequence[str] | str
    exclude: str | None
    overrides: AnyPath | None


class _ReportKeywords(TypedDict, total=False):
    command: str
    compare: AnyPath | None
    labels: AnyPath | None


class SynthesisKeywords(_InputKeywords, _SynthesisKeywords, _ResumeKeywords):
    """Keywords of ``synthesize``: the fields of the groups of :mod:`dfq_deploy.pipeline.options`."""


class CalibrationKeywords(SynthesisKeywords, _OverrideKeywords, _ReportKeywords, total=False):
    """Keywords of ``calibrate``: those of ``synthesize``, and the fields of ``Bits``, ``Budget``, ``Overrides`` and
    :class:`dfq_deploy.pipeline.remedies.floor.Limits`, and what :class:`dfq_deploy.pipeline.reporting.Call` takes."""

    edge_bits: int | None
    size: float | None
    drop: float | None
    activations: Activations
    floor: str
    max_time: float | None
    max_slowdown: float | None


class FinetuneKeywords(_InputKeywords, _SynthesisKeywords, _OverrideKeywords, _ReportKeywords):
    """Keywords of ``finetune``: the fields of ``ModelInputs`` and ``SynthesisOptions``, what
    :class:`dfq_deploy.pipeline.reporting.Call` takes, and what ``Overrides`` are made of."""


def refuse_unknown(function: str, keywords: Mapping[str, Any], known: type) -> None:
    """Refuse a keyword that ``function`` does not have, as Python does.

    Raises:
        TypeError: names the keyword, and lists the valid ones.
    """
    names: frozenset[str] = known.__optional_keys__  # type: ignore[attr-defined]
    for name in keywords:
        if name not in names:
            raise TypeError(
                f"{function}() got an unexpected keyword argument '{name}'; beside those of its signature it takes "
                f"{', '.join(sorted(names))}"
            )
