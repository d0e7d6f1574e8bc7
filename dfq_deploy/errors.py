"""Exceptions for problems with the input or the machine.

::

    DfqError                      caught by the command line: one line, exit status 1
    ├── ModelError                the model file cannot be read, or is not suitable for the step
    │   └── UnsupportedOperators  lists every node that the twin does not support
    ├── SamplesError              the samples or images cannot be read or do not fit the model
    ├── TargetError               the target is unknown or does not support the model
    ├── PluginError               a method is unknown, or its package does not load
    ├── OptionError               an option has an invalid value, or two options contradict each other
    └── OutputError               the result cannot be written

A message is one line, in characters that no terminal obeys, with the object, the value, the location and the remedy.
"""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

__all__ = [
    "DfqError",
    "ModelError",
    "OptionError",
    "OutputError",
    "PluginError",
    "SamplesError",
    "TargetError",
    "UnsupportedOperators",
    "did_you_mean",
    "first_line",
    "is_out_of_memory",
    "one_line",
    "printable",
    "similar_file",
]

REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's marks that change the direction in which text is shown."""

OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Failed to allocate memory",
    "bad_alloc",
)
"""Texts for out of memory in a RuntimeError of torch on a GPU, on Windows, on Linux, of ONNX Runtime and of C++."""


class DfqError(Exception):
    """Base class of all errors that a user can cause and correct."""

    def __str__(self) -> str:
        """The message; what a terminal would obey in the names that it quotes is escaped."""
        return printable(super().__str__())


class ModelError(DfqError):
    """The model cannot be read, or is not suitable for the step."""


class UnsupportedOperators(ModelError):  # noqa: N818 - the plural says that it lists them all
    """The graph contains operators that the twin does not support.

    Args:
        nodes: pairs of node name and operator (``domain::Type-opset``) of all unsupported nodes.
    """

    def __init__(self, nodes: Iterable[tuple[str, str]]) -> None:
        self.nodes = tuple(nodes)
        listed = ", ".join(f"{operator} ({name})" for name, operator in self.nodes)
        super().__init__(
            f"the twin does not support {len(self.nodes)} node(s) of this graph: {listed}; a method that needs no "
            "gradient (--synth procedural) or real images (--data) do without it"
        )


class SamplesError(DfqError):
    """Samples or images cannot be read, or do not fit the model."""


class TargetError(DfqError):
    """The target is unknown or does not support the model."""


class PluginError(DfqError):
    """No method of that name is installed, or its package does not load."""


class OptionError(DfqError):
    """An option has an invalid value, or two options contradict each other."""


class OutputError(DfqError):
    """The result cannot be written to the requested path."""


def is_out_of_memory(problem: BaseException) -> bool:
    """True for a MemoryError, and for other exceptions whose message reports insufficient memory."""
    return isinstance(problem, MemoryError) or any(words in str(problem) for words in OUT_OF_MEMORY)


def printable(text: str) -> str:
    """``text`` with control characters, marks that reorder text, and bytes that are no UTF-8 written as escapes.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter.encode("unicode_escape").decode() if _is_obeyed(letter) else letter for letter in text)


def _is_obeyed(letter: str) -> bool:
    return letter not in "\n\t" and (unicodedata.category(letter) in ("Cc", "Cs") or letter in REORDERING)


def one_line(problem: object, longest: int | None = None) -> str:
    """The message of ``problem`` on one line, without the final full stop, truncated to ``longest`` characters."""
    return " ".join(str(problem).split()).rstrip(".")[:longest]


def first_line(problem: object) -> str:
    """The first line of the message of ``problem``, without the final full stop; its type name if it is empty."""
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(problem).__name__


OTHER_NAMES = {
    "quantize": "calibrate",
    "quantise": "calibrate",
    "ptq": "calibrate",
    "qat": "finetune",
    "train": "finetune",
    "convert": "export",
    "compare": "evaluate",
    "eval": "evaluate",
    "tflite": "litert",
    "tensorflow-lite": "litert",
    "trt": "tensorrt",
    "nvidia": "tensorrt",
    "gpu": "tensorrt",
    "onnxruntime": "cpu",
    "ort": "cpu",
    "x86": "cpu",
    "arm": "cpu",
    "browser": "web",
    "wasm": "web",
    "qualcomm": "qnn",
    "snapdragon": "qnn",
    "rockchip": "rknn",
    "intel": "openvino",
}
"""What others call commands and targets."""


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "installed") -> str:
    """The end of a message on an unknown name: the most similar known name, or all known names.

    Args:
        otherwise: what the list is called where no name is similar.
    """
    names = list(known)
    meant = OTHER_NAMES.get(str(name).lower().replace("_", "-"))
    if meant in names:
        return f"; did you mean {meant}?"
    spelling = {other.lower(): other for other in names}
    similar = get_close_matches(str(name).lower(), spelling, 1, 0.75)  # tpu does not mean cpu
    if similar:
        return f"; did you mean {spelling[similar[0]]}?"
    return f"; {otherwise}: {', '.join(names) or 'none'}"


def similar_file(path: Path) -> str:
    """``; did you mean FILE?`` for a path that does not exist; empty if its folder holds no similar name."""
    try:
        stems = {entry.stem: entry.name for entry in sorted(path.parent.iterdir(), reverse=True)}
    except OSError:
        return ""
    similar = get_close_matches(path.stem, stems, 1, 0.6)
    return f"; did you mean {path.with_name(stems[similar[0]])}?" if similar else ""
