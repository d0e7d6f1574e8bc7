"""Violations, and the report that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """

    model: str
    target: str
    rules: Mapping[str, str]
    violations: tuple[Violation, ...]

    @property
    def clean(self) -> bool:
        """True if no rule is broken."""
        return not self.violations

    def to_json(self) -> dict[str, Any]:
        """What ``check --json`` prints."""
        return {
            "model": self.model,
            "target": self.target,
            "clean": self.clean,
            "rules": dict(self.rules),
            "violations": [vars(violation) for violation in self.violations],
        }
