"""The twin: the ONNX graph as a differentiable torch module.

:class:`Twin` imports a model; :class:`Step` is one of its nodes. :func:`register` adds an operator.
"""

from dfq_deploy.twin import ops as _ops  # noqa: F401  # fills the registry
from dfq_deploy.twin.module import Twin
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.program import Hook, Step
from dfq_deploy.twin.registry import REGISTRY, Builder, Entry, Operator, Registry, register

__all__ = [
    "REGISTRY",
    "Builder",
    "Entry",
    "Hook",
    "Node",
    "Operator",
    "Registry",
    "Step",
    "Twin",
    "register",
]
