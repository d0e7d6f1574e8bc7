"""The command to paste next, from the finding that decides a verdict."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dfq_deploy.verdict.finding import Finding

__all__ = ["FLAGS", "AfterCalibration", "amended", "option_names"]

INPUT_OPTIONS = ("--preprocess", "--mean", "--std", "--input-shape", "--input-range", "--main-input", "--task")
"""Options on how a model is fed, which commands share."""

EXCLUDED = (
    ("--preprocess", "--mean", "--std", "--input-range"),
    ("--synth", "--data"),
)
"""Options that replace each other: giving one takes the others out."""

FLAGS = frozenset(
    {"--json", "--verbose", "-v", "--quiet", "-q", "--resume", "--integer-io", "--float16", "--fix-shapes", "--debug"}
    | {"--latency"}
)
"""Options without a value."""

SINGLE_RUNS = frozenset({"--resume", "--compare"})
"""What belongs to one run, and not to the next."""

SPEED = frozenset({"slower", "as", "layers", "nothing", "speed"})
"""How codes of findings on speed and kernels begin."""


@dataclass(frozen=True)
class AfterCalibration:
    """What to paste after ``calibrate`` or ``finetune``.

    Args:
        command: the command line of the run; a call in Python gets one made of the other fields.
        model: the float model's file as it was given, or its name.
        folder: that was written; empty where none was.
        quantized: name of the quantized file.
        target: that it is for.
        method: what made the samples; ``data`` for real ones.
        refined: with ``--refine reconstruct``.
        statistics: the model, or a teacher, has BatchNormalization, which inversion matches.
    """

    command: str
    model: str
    folder: str
    quantized: str
    target: str
    method: str
    refined: bool
    statistics: bool = True

    def __call__(self, finding: Finding) -> str:
        """The command that the finding calls for."""
        options, command = self._options_for(finding), self._calibrate()
        found = amended(command, options) if options else ""
        if not found or _same(found, command):
            return shlex.join(["dfq-deploy", *self._look(finding)])
        return found

    def _options_for(self, finding: Finding) -> list[str]:
        """What the next run gets beside the options of this one; nothing where another command comes next."""
        kind = finding.code.partition("-")[0]
        if finding.options:
            return shlex.split(finding.options)
        if kind == "preprocess" or (finding.code == "samples-scale" and self.method != "data"):
            return ["--mean", "MEANS", "--std", "DEVIATIONS"]
        if kind == "samples":
            few = finding.code in ("samples-few", "samples-repeated") and self.method != "data"
            return ["--samples", "64"] if few else ["--synth", self._other_method()]
        noisy = finding.level == "BAD" and finding.code != "rules" and kind not in SPEED
        return ["--refine", "reconstruct"] if noisy and not self.refined and "finetune" not in self.command else []

    def _other_method(self) -> str:
        """Another way to make samples."""
        if self.method not in ("data", "procedural"):
            return "procedural"
        return "deepinversion" if self.statistics else "photographs" if self.method == "procedural" else "procedural"

    def _look(self, finding: Finding) -> list[str]:
        """The command that shows more."""
        if finding.code == "rules":
            return ["check", self._file(), "--target", self.target]
        if finding.code.partition("-")[0] in SPEED:
            return ["inspect", self.model, "--target", self.target, "--verbose"]
        if finding.level == "BAD":
            return ["inspect", self.model, "--sensitivity", *self._fed()]
        return ["evaluate", self.model, self._file(), "--data", "FOLDER", *self._fed()]

    def _calibrate(self) -> str:
        """The command of the run, or one like it."""
        if self.command.startswith(("dfq-deploy calibrate ", "dfq-deploy finetune ")):
            return self.command
        samples = [] if self.method == "data" else ["--synth", self.method]
        output = ["-o", self.folder] if self.folder else []
        return shlex.join(["dfq-deploy", "calibrate", self.model, "--target", self.target, *samples, *output])

    def _file(self) -> str:
        return f"{self.folder.rstrip('/')}/{self.quantized}" if self.folder else self.quantized

    def _fed(self) -> list[str]:
        """The options of the run on how the model is fed."""
        if not self.command.startswith("dfq-deploy "):
            return []
        return [
            token for words in _options(shlex.split(self.command)) if _name(words) in INPUT_OPTIONS for token in words
        ]


def option_names(command: str) -> list[str]:
    """The names of the options of a command line, as they were typed."""
    return [_name(words) for words in _options(shlex.split(command)) if words[0].startswith("-")]


def amended(command: str, options: Sequence[str], without: Collection[str] = ()) -> str:
    """``command`` with other ``options``: those that they replace are left out.

    Args:
        options: names and values in turn, each with one value.
        without: names of others that are left out.
    """
    names = set(options[::2])
    dropped = names | {name for group in EXCLUDED if names & set(group) for name in group} | SINGLE_RUNS | set(without)
    program, name, *rest = shlex.split(command)
    kept = [token for words in _options(rest) if _name(words) not in dropped - {"--refine"} for token in words]
    return shlex.join([program, name, *kept, *options])


def _same(command: str, other: str) -> bool:
    """Whether two command lines ask for the same, in whatever order: to run it again would change nothing."""
    return sorted(_options(shlex.split(command))) == sorted(_options(shlex.split(other)))


def _options(words: Sequence[str]) -> list[list[str]]:
    """Each option with its value, and each argument by itself."""
    found: list[list[str]] = []
    takes_value = False
    for word in words:
        if takes_value:
            found[-1].append(word)
            takes_value = False
            continue
        found.append([word])
        takes_value = word.startswith("-") and len(word) > 1 and "=" not in word and word not in FLAGS
    return found


def _name(words: Collection[str]) -> str:
    return next(iter(words)).partition("=")[0]
