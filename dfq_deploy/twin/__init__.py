"""The twin: an ONNX graph as a differentiable torch module.

=============== =====================================================================================
``device``      Decide which tensors stay on the CPU.
``dtypes``      Convert ONNX element types and constants to torch.
``importer``    Import an ONNX graph as a program of torch steps.
``in_step``     Feed samples to a graph that fixes its batch: join and split what its runs have.
``kept_memory`` Measure what a forward pass keeps for its backward pass.
``module``      The Twin: an ONNX graph as a torch module.
``node``        One ONNX node as operator builders see it.
``precision``   Decide where bfloat16 is used.
``program``     A graph as a list of steps, and the loop that runs it.
``registry``    Registry of operators, keyed by domain, name and version.
``teacher``     Build the twin for synthesis and training: one input, channels first, any batch size.
``unsigned``    Compute unsigned 16, 32 and 64-bit integers as int64.
``ops``         Operators, by family.
=============== =====================================================================================
"""

from dfq_deploy.twin import ops as _ops  # noqa: F401  # fills the registry
from dfq_deploy.twin.module import Twin
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.program import GroupHook, Hook, Step
from dfq_deploy.twin.registry import REGISTRY, Builder, Entry, Operator, Registry, register

__all__ = [
    "REGISTRY",
    "Builder",
    "Entry",
    "GroupHook",
    "Hook",
    "Node",
    "Operator",
    "Registry",
    "Step",
    "Twin",
    "register",
]
