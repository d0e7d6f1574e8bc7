"""Violations, and the report that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfq_deploy.runtime.kernels import KernelCount, named

__all__ = ["Report", "Violation"]


@dataclass(frozen=True)
class Violation:
    """One place where a file breaks a rule of a target.

    Args:
        rule: the rule's name.
        node: name of the node, input or output.
        operator: the node's operator; ``input`` or ``output`` for those of the graph.
        found: what is wrong there.
        way_out: what to do about it.
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
    """Everything that a check has found.

    Args:
        rules: name of each rule that was applied -> what it asks for.
        violations: rule by rule, in the order of the graph.
        kernels: the layers as the runtime runs them; one in float breaks no rule by itself.
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
        """How many layers run in integers, and which are quantized and run in float all the same."""
        lost = self.kernels.dequantized
        if not lost:
            return (str(self.kernels),)
        told = f"{len(lost)} quantized layer(s) run in float in {self.kernels.runtime}, slower than without Q and DQ"
        return (str(self.kernels), f"{told}: {named(lost)}; {self.kernels.way_out}")

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
