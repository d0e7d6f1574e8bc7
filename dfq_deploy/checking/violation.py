"""Violations of rules, and the report that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dfq_deploy.runtime.kernel_count import KernelCount, named

__all__ = ["COMPILER", "Level", "Report", "Violation"]

Level: TypeAlias = Literal["error", "advice"]
"""``error``: the runtime refuses the file, or runs the layer in float. ``advice``: it runs the file, only slower."""

COMPILER = "compiler"
"""Name of the rule that the runtime's own compiler accepts the file."""


@dataclass(frozen=True)
class Violation:
    """One place where a file breaks a rule of a target.

    Args:
        rule: name of the rule.
        node: name of the node, or of the input or output of the graph.
        operator: operator of the node; ``input`` or ``output`` for those of the graph.
        found: description of the problem.
        way_out: how to mend it.
        level: ``advice`` if the runtime does not enforce the rule.
    """

    rule: str
    node: str
    operator: str
    found: str
    way_out: str
    level: Level = "error"

    @property
    def place(self) -> str:
        """The operator and its name; ``the file`` if the problem has no single place."""
        return f"{self.operator} '{self.node}'" if self.operator or self.node else "the file"

    def __str__(self) -> str:
        return f"{self.place}: {self.found}; {self.way_out} [{self.rule}]"


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Args:
        rules: name of each applied rule -> its requirement.
        violations: rule by rule, in the order of the graph; those of the level ``advice`` too.
        compiler: what the runtime's own compiler says of the file, where it is installed.
        kernels: how the runtime runs each layer; a layer in float is not a violation by itself.
    """

    model: str
    target: str
    rules: Mapping[str, str]
    violations: tuple[Violation, ...]
    kernels: KernelCount
    compiler: str = ""

    @property
    def clean(self) -> bool:
        """True if no rule is broken that the runtime enforces."""
        return not self.errors

    @property
    def errors(self) -> tuple[Violation, ...]:
        """The violations of rules that the runtime enforces."""
        return tuple(violation for violation in self.violations if violation.level == "error")

    @property
    def advice(self) -> tuple[Violation, ...]:
        """The violations of rules that the runtime does not enforce."""
        return tuple(violation for violation in self.violations if violation.level == "advice")

    @property
    def notes(self) -> tuple[str, ...]:
        """How many layers run in integer kernels, and which quantized layers run in float nevertheless."""
        dequantized = self.kernels.dequantized
        said = (self.compiler,) if self.compiler else ()
        if not dequantized:
            return (*said, str(self.kernels))
        message = (
            f"{len(dequantized)} quantized layer(s) run in float in {self.kernels.runtime}, slower than without Q and "
            f"DQ: {named(dequantized)}; {self.kernels.way_out}"
        )
        return (*said, str(self.kernels), message)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That a file with Q and DQ runs in float from end to end, which breaks no rule and gains nothing."""
        count = self.kernels
        nothing = count.total and not count.integer and not count.weight_only
        if not nothing or not (count.conversions or count.dequantized):
            return ()
        return (
            f"nothing runs in INT8 for {self.target} though the file has Q and DQ: all {count.total} layers are float, "
            f"{named(count.in_float)}; quantize for {self.target}, or check with --target what it was quantized for",
        )

    def to_json(self) -> dict[str, Any]:
        """What ``check --json`` prints."""
        return {
            "model": self.model,
            "target": self.target,
            "clean": self.clean,
            "rules": dict(self.rules),
            "violations": [vars(violation) for violation in self.violations],
            "compiler": self.compiler,
            "kernels": self.kernels.to_json(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
