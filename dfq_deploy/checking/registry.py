"""Registry of checker rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dfq_deploy.checking.view import View
from dfq_deploy.checking.violation import Violation
from dfq_deploy.targets.target import Target

__all__ = ["RULES", "Check", "Place", "Rule", "rule"]

Place: TypeAlias = tuple[str, str, str]
"""Operator, node name, what was found there."""

Check: TypeAlias = Callable[[View, Target], Iterator[Place]]
"""A rule's work: yields the places that break it."""


@dataclass(frozen=True)
class Rule:
    """One thing that a runtime asks of a file.

    Args:
        name: short, as targets list it.
        asks: what it asks for: the first line of its docstring, which also names the source.
        way_out: what to do where it is broken.
    """

    name: str
    asks: str
    way_out: str
    check: Check

    def violations(self, view: View, target: Target) -> tuple[Violation, ...]:
        """Where ``view`` breaks the rule."""
        return tuple(
            Violation(self.name, node, operator, found, self.way_out)
            for operator, node, found in self.check(view, target)
        )


RULES: dict[str, Rule] = {}


def rule(name: str, way_out: str) -> Callable[[Check], Check]:
    """Register a function as the rule ``name``."""

    def register(check: Check) -> Check:
        if name in RULES:
            raise ValueError(f"rule '{name}' is registered already")
        RULES[name] = Rule(name, (check.__doc__ or "").strip().split("\n", 1)[0].rstrip("."), way_out, check)
        return check

    return register
