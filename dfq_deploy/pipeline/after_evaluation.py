"""The command to paste next, from the finding that decides the verdict on an evaluation."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfq_deploy.pipeline.next_command import amended, option_names
from dfq_deploy.verdict.evaluation import FAULTS, NEEDED, SWAPPED
from dfq_deploy.verdict.finding import Finding

__all__ = ["AfterEvaluation"]

PREPROCESS = ("--preprocess", "--mean", "--std")
"""Options that say how pixels become inputs."""


@dataclass(frozen=True)
class AfterEvaluation:
    """What to paste after ``evaluate``.

    Args:
        float_model, quantized_model: the files as they were given.
        data: where the samples are from, as it was given; empty where they were drawn by rule.
        fed: options on how the model is fed, as they were given.
        stated: the same, with what the quantized file states where none was given.
        target: that the file is for; None where it is not known.
        labels: the file with the names of the classes, as it was given; empty where none was.
        command: the command line of the evaluation; a call in Python gets one made of the other fields.
    """

    float_model: str
    quantized_model: str
    data: str = ""
    fed: Sequence[str] = ()
    stated: Sequence[str] = ()
    target: str | None = None
    labels: str = ""
    command: str = ""

    def __call__(self, finding: Finding) -> str:
        """The command that the finding calls for; empty where none is known."""
        if finding.code == SWAPPED:
            return self._swapped()
        if finding.code.startswith(("preprocess-", "labels")) or finding.options:
            return self._for_inputs(finding)
        if finding.code in FAULTS - {"nothing-quantized"} | {"scale-wide", "scale-clips"}:
            target = [] if self.target is None else ["--target", self.target]
            return self._calibrate([*self.stated, *target])
        return self._look(finding)

    def _for_inputs(self, finding: Finding) -> str:
        """Where the samples, their preprocess or their labels are what is wrong, or options are known to help."""
        if finding.code in ("preprocess-unchanged", "samples-bits"):
            return self._evaluate(["--data", "FOLDER"])
        if finding.code == "preprocess-stated" and not self.data:
            return self._without(PREPROCESS)
        if finding.options:
            return self._calibrate(shlex.split(finding.options))
        if finding.code.startswith("labels"):
            # No option shifts labels, and an array has its own beside it, as numbers.
            none = finding.code == "labels-shifted" or self.data.lower().endswith((".npz", ".npy"))
            return "" if none else self._evaluate(["--data", self.data, "--labels", "NAMES.txt"])
        return self._look(finding)

    def _look(self, finding: Finding) -> str:
        """The command that shows more."""
        needed = (finding.figures or {}).get(NEEDED)
        if needed is None and (finding.level == "BAD" or self.data):
            return shlex.join(["dfq-deploy", "inspect", self.float_model, "--sensitivity"])
        limited = needed is not None and "--samples" in option_names(self.command)
        return self._evaluate(["--data", "FOLDER", *(["--samples", f"{needed:.0f}"] if limited else [])])

    def _evaluate(self, options: Sequence[str]) -> str:
        """The evaluation again with other ``options``, names and values in turn, and all others that were given."""
        if self._is_typed:
            return amended(self.command, options)
        data, others = options[:2], options[2:]
        labels = ["--labels", self.labels] if self.labels and "--labels" not in others else []
        return self._compared([*data, *self.fed, *labels, *others])

    def _without(self, names: Collection[str]) -> str:
        """The evaluation again without the options of these names."""
        return amended(self.command, [], without=names) if self._is_typed else self._compared([])

    def _swapped(self) -> str:
        """The evaluation again with the two files in the other order."""
        words = shlex.split(self.command if self._is_typed else self._compared([]))
        typed = {Path(word): word for word in words}  # ./f.onnx is f.onnx
        files = Path(self.float_model), Path(self.quantized_model)
        other = {path: typed.get(swapped, str(swapped)) for path, swapped in zip(files, files[::-1], strict=True)}
        return shlex.join([other.get(Path(word), word) for word in words])

    @property
    def _is_typed(self) -> bool:
        return self.command.startswith("dfq-deploy evaluate ")

    def _compared(self, options: Sequence[str]) -> str:
        return shlex.join(["dfq-deploy", "evaluate", self.float_model, self.quantized_model, *options])

    def _calibrate(self, options: Sequence[str]) -> str:
        return shlex.join(["dfq-deploy", "calibrate", self.float_model, *options])
