"""Violations of rules, and the report that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfq_deploy.runtime.kernels import KernelCount, named

__all__ = ["Report", "Violation"]


@dataclass(frozen=True)
class Violation:
    """One place where a file breaks a rule of a target.

    Args:
        rule: name of the rule.
        node: name of the node, or of the input or output of the graph.
        operator: operator of the node; ``input`` or ``output`` for those of the graph.
        found: description of the problem.
        way_out: how to mend it.
    """

    rule: str
    node: str
    operator: str
    found: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.operator} '{self.node}': {self.found}; {self.way_out} [{self.rule}]"


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Args:
        rules: name of each applied rule -> its requirement.
        violations: rule by rule, in the order of the graph.
        kernels: how the runtime runs each layer; a layer in float is not a violation by itself.
    """

    model: str
    target: str
    rules: Mapping[str, str]
    violations: tuple[Violation, ...]
    kernels: KernelCount

    @property
    def clean(self) -> bool:
        """True if no rule is broken."""
        return not self.violations

    @property
    def notes(self) -> tuple[str, ...]:
        """How many layers run in integer kernels, and which quantized layers run in float nevertheless."""
        dequantized = self.kernels.dequantized
        if not dequantized:
            return (str(self.kernels),)
        message = (
            f"{len(dequantized)} quantized layer(s) run in float in {self.kernels.runtime}, slower than without Q and "
            f"DQ: {named(dequantized)}; {self.kernels.way_out}"
        )
        return (str(self.kernels), message)

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
            "kernels": self.kernels.to_json(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
