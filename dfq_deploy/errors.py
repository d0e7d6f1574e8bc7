"""Exceptions for problems with the input or the machine.

::

    DfqError                      caught by the command line: one line, exit status 1
    ├── ModelError                the model file cannot be read, or is not what the step needs
    │   └── UnsupportedOperators  lists every node that the twin does not support
    ├── SamplesError              the samples or images cannot be read or do not fit the model
    ├── TargetError               the requested runtime is unknown or refuses the model
    ├── PluginError               a method is unknown, or its package does not load
    ├── OptionError               an option has an invalid value, or two options contradict each other
    └── OutputError               the result cannot be written

A message names the thing, the value, the place and the way out, on one line.
"""

from collections.abc import Iterable

__all__ = [
    "DfqError",
    "ModelError",
    "OptionError",
    "OutputError",
    "PluginError",
    "SamplesError",
    "TargetError",
    "UnsupportedOperators",
    "first_line",
    "is_out_of_memory",
    "one_line",
]

OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Failed to allocate memory",
    "bad_alloc",
)
"""How torch on a GPU, torch on Windows, torch on Linux, ONNX Runtime and C++ say it in a RuntimeError."""


class DfqError(Exception):
    """Base of every error that a user can cause and mend."""


class ModelError(DfqError):
    """The model cannot be read, or lacks what the step needs."""


class UnsupportedOperators(ModelError):  # noqa: N818 - the plural says that it lists them all
    """The graph holds operators that the twin does not support.

    Args:
        nodes: pairs of node name and operator (``domain::Type-opset``), all of them.
    """

    def __init__(self, nodes: Iterable[tuple[str, str]]) -> None:
        self.nodes = tuple(nodes)
        listed = ", ".join(f"{operator} ({name})" for name, operator in self.nodes)
        super().__init__(
            f"the twin does not support {len(self.nodes)} node(s) of this graph: {listed}; use a method that needs no "
            "gradient (--synth procedural), or real images (--data)"
        )


class SamplesError(DfqError):
    """Samples or images cannot be read, or do not fit the model."""


class TargetError(DfqError):
    """The target is unknown or cannot take the model."""


class PluginError(DfqError):
    """No method of that name is installed, or its package does not load."""


class OptionError(DfqError):
    """An option has a value that it cannot have, or two options contradict each other."""


class OutputError(DfqError):
    """The result cannot be written where it was asked for."""


def is_out_of_memory(problem: BaseException) -> bool:
    """True for a MemoryError, and for another exception whose message says that memory does not suffice."""
    return isinstance(problem, MemoryError) or any(words in str(problem) for words in OUT_OF_MEMORY)


def one_line(problem: object, longest: int | None = None) -> str:
    """The whole message of ``problem`` on one line, without its full stop, of at most ``longest`` characters."""
    return " ".join(str(problem).split()).rstrip(".")[:longest]


def first_line(problem: object) -> str:
    """The first line of the message of ``problem``, without its full stop; its type's name where there is none."""
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(problem).__name__
