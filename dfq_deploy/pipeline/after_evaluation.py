"""The command to paste next, from the finding that decides the verdict on an evaluation."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from dfq_deploy.verdict.evaluation import FAULTS, NEEDED, SWAPPED
from dfq_deploy.verdict.finding import Finding

__all__ = ["AfterEvaluation"]


@dataclass(frozen=True)
class AfterEvaluation:
    """What to paste after ``evaluate``.

    Args:
        float_model, quantized_model: the files as they were given.
        data: where the samples are from, as it was given; empty where they were drawn by rule.
        fed: options on how the model is fed, as they were given.
        stated: the same, with what the quantized file states where none was given.
        target: that the file is for; None where it is not known.
    """

    float_model: str
    quantized_model: str
    data: str = ""
    fed: Sequence[str] = ()
    stated: Sequence[str] = ()
    target: str | None = None

    def __call__(self, finding: Finding) -> str:
        """The command that the finding calls for; empty where none is known."""
        if finding.code == SWAPPED:
            return shlex.join(["dfq-deploy", "evaluate", self.quantized_model, self.float_model])
        if finding.code.startswith(("preprocess-", "labels")) or finding.options:
            return self._for_inputs(finding)
        if finding.code in FAULTS - {"nothing-quantized"} | {"scale-wide", "scale-clips"}:
            target = [] if self.target is None else ["--target", self.target]
            return self._calibrate([*self.stated, *target])
        return self._look(finding)

    def _for_inputs(self, finding: Finding) -> str:
        """Where the samples, their preprocess or their labels are what is wrong, or options are known to help."""
        if finding.code in ("preprocess-unchanged", "samples-bits"):
            return self._evaluate(["--data", "FOLDER", *self.fed])
        if finding.code == "preprocess-stated" and not self.data:
            return self._evaluate([])
        if finding.options:
            return self._calibrate(shlex.split(finding.options))
        if finding.code.startswith("labels"):
            # No option shifts labels, and an array has its own beside it, as numbers.
            none = finding.code == "labels-shifted" or self.data.lower().endswith((".npz", ".npy"))
            return "" if none else self._evaluate(["--data", self.data, *self.fed, "--labels", "NAMES.txt"])
        return self._look(finding)

    def _look(self, finding: Finding) -> str:
        """The command that shows more."""
        few = NEEDED in (finding.figures or {})
        if not few and (finding.level == "BAD" or self.data):
            return shlex.join(["dfq-deploy", "inspect", self.float_model, "--sensitivity"])
        return self._evaluate(["--data", "FOLDER", *self.fed])

    def _evaluate(self, options: Sequence[str]) -> str:
        return shlex.join(["dfq-deploy", "evaluate", self.float_model, self.quantized_model, *options])

    def _calibrate(self, options: Sequence[str]) -> str:
        return shlex.join(["dfq-deploy", "calibrate", self.float_model, *options])
