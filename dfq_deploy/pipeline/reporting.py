"""What a report says beside the figures: how it was made, single samples and channels, another run."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import DfqError, OptionError, SamplesError
from dfq_deploy.evaluation.answers import SampleAnswers, answers, shown_samples
from dfq_deploy.evaluation.weight_channels import WeightChannels, weight_channels
from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.query import score_count
from dfq_deploy.graph.task import task_hint
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.report.run import RunSection, plain_options, python_call, run_section
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.labels import read_class_names
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.graph.reading import ModelSource

__all__ = ["REPORT_FILE", "About", "Call", "channels_of", "read_report", "sample_answers"]

REPORT_FILE = "report.json"

UNSAID = frozenset({"model", "output", "progress", "command", "compare", "keywords", "resume", "unfinished"})
"""Arguments that do not change the figures, or are said elsewhere."""


@dataclass(frozen=True)
class About:
    """What a report is given beside the result.

    Args:
        run: how it was made.
        other, name: report.json of another run to compare with, and where it lies.
        model: the float model's file as it was given, or its name.
        folder: that is written; empty where none is.
        classes: names of the classes, in the order of the scores; none where they are not known.
    """

    run: RunSection
    other: Mapping[str, Any] | None
    name: str
    model: str
    folder: str
    classes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Call:
    """A call of ``calibrate`` or ``finetune``.

    Args:
        function: its name.
        model: as it was given.
        options: those that differ from their defaults.
        command: the command line, to paste; empty where Python called, and the call stands for it.
        compare: where the report of another run lies; None where there is none to compare with.
        other: that report.
        output: the folder to write; None where none is.
        classes: names of the classes, in the order of the scores; none where they were not given.
    """

    function: str
    model: "ModelSource | Module"
    options: Mapping[str, Any]
    command: str
    compare: AnyPath | None
    other: Mapping[str, Any] | None
    output: AnyPath | None
    classes: Sequence[str] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], arguments: Mapping[str, Any], keywords: Mapping[str, Any]) -> "Call":
        """The call that is running.

        Args:
            arguments: the values of its parameters, by name; others are left out.
            keywords: ``command`` and ``compare`` among them.

        Raises:
            OptionError: the report to compare with cannot be read.
            SamplesError: the names of the classes cannot be read.
        """
        parameters = inspect.signature(function).parameters
        given = {**{name: value for name, value in arguments.items() if name in parameters}, **keywords}
        known = {name: value for name, value in given.items() if name not in UNSAID}
        options = plain_options(known, {name: entry.default for name, entry in parameters.items()})
        compare = keywords.get("compare")
        other = None if compare is None else read_report(as_path(compare, "compare"))
        labels = keywords.get("labels")
        classes = () if labels is None else read_class_names(as_path(labels, "labels"))
        return cls(
            function.__name__, arguments["model"], options, str(keywords.get("command", "")), compare, other,
            arguments.get("output"), classes,
        )  # fmt: skip

    def checked(self, source: ir.Model, name: str) -> tuple[ir.Model, str]:
        """The model that was read, and its name; names of classes that are not its own are refused.

        Raises:
            SamplesError: there are more or fewer than the model has classes, or it has none.
        """
        count = score_count(source, labelled=True) if self.classes else None
        if self.classes and count is None:
            raise SamplesError(f"--labels: {task_hint(source)}")
        if count is not None and len(self.classes) != count:
            raise SamplesError(
                f"--labels: {len(self.classes)} class names for the {count} classes of the model; write one name per "
                "line, in the order of the model's scores"
            )
        return source, name

    def about(self, source: ir.Model, name: str) -> About:
        """What the report says of this call.

        Args:
            source, name: the model that was read, and its name.
        """
        file = Path(self.model) if isinstance(self.model, str | PathLike) else None
        command = self.command or python_call(self.function, str(file or name), self.options)
        options = {key: str(value) for key, value in self.options.items()}
        run = run_section(command, options, file, source)
        return About(run, self.other, str(self.compare or ""), str(file or name), str(self.output or ""), self.classes)


def read_report(path: Path) -> Mapping[str, Any]:
    """Read a report.json, or the one in a folder.

    Raises:
        OptionError: it is missing, or no report.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    try:
        found = parsed_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        said = problem.strerror if isinstance(problem, OSError) and problem.strerror else "it is no JSON"
        raise OptionError(
            f"compare: {file}: {said}; give the folder or the report.json that another calibrate wrote"
        ) from None
    if not isinstance(found, dict) or "schema_version" not in found or "comparison" not in found:
        raise OptionError(f"compare: {file}: no report of calibrate or finetune; give the report.json that one wrote")
    return found


def channels_of(
    model: ir.Model, encodings: Mapping[str, Encoding], placement: Placement
) -> tuple[WeightChannels, ...] | None:
    """The channels of the quantized weights; None where there is none."""
    return weight_channels(model, encodings, placement.weights) or None


def sample_answers(
    runners: Sequence[Runner], samples: Samples, warn: Callable[[str], None], classes: Sequence[str] = ()
) -> tuple[SampleAnswers, ...] | None:
    """What both models answer to the samples that are shown; None, and a warning, where they cannot be run on them.

    Args:
        classes: their names, in the order of the scores.
    """
    try:
        return answers(runners[0], runners[1], samples, shown_samples(samples), classes)
    except DfqError as problem:
        warn(f"the answers to single samples are missing: {problem}")
        return None
