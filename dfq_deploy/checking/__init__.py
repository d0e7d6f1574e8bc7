"""Read any ONNX file against the rules of a target: ``dfq-deploy check``.

A rule is a small function with a name and its source in its docstring; the targets (:mod:`dfq_deploy.targets`) name
theirs.
"""

from dfq_deploy.checking.registry import RULES, Rule
from dfq_deploy.checking.run import check
from dfq_deploy.checking.violation import Report, Violation

__all__ = ["RULES", "Report", "Rule", "Violation", "check"]
