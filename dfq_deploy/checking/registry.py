"""Registry of checker rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dfq_deploy.checking.view import View
from dfq_deploy.checking.violation import Level, Violation
from dfq_deploy.targets.target import Target

__all__ = ["RULES", "Check", "Problem", "Rule", "rule"]

Problem: TypeAlias = tuple[str, str, str]
"""Operator, node name and a description of the problem."""

Check: TypeAlias = Callable[[View, Target], Iterator[Problem]]
"""The function of a rule: yields one finding for each place that breaks it."""


@dataclass(frozen=True)
class Rule:
    """One requirement of a runtime on a file.

    Args:
        name: short name, as targets list it.
        asks: the requirement: the first line of the docstring of its function, which also names the source.
        way_out: how to mend a violation.
        check: the function that finds violations.
    """

    name: str
    asks: str
    way_out: str
    check: Check

    def violations(self, view: View, target: Target) -> tuple[Violation, ...]:
        """Return the violations of this rule in ``view``."""
        level: Level = "advice" if self.name in target.advice else "error"
        return tuple(
            Violation(self.name, node, operator, found, self.way_out, level)
            for operator, node, found in self.check(view, target)
        )


RULES: dict[str, Rule] = {}


def rule(name: str, way_out: str) -> Callable[[Check], Check]:
    """Register a function as the rule ``name``."""

    def register(check: Check) -> Check:
        if name in RULES:
            raise ValueError(f"rule '{name}' is already registered")
        RULES[name] = Rule(name, (check.__doc__ or "").strip().split("\n", 1)[0].rstrip("."), way_out, check)
        return check

    return register
