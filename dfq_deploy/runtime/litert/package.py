"""Import LiteRT's package and the schema of its files."""

from importlib.util import find_spec
from typing import Any

from dfq_deploy.errors import PluginError, first_line

__all__ = ["interpreter_class", "is_installed", "schema"]

WAY_OUT = "pip install 'dfq-deploy[litert]'"


def is_installed() -> bool:
    """Return True if ``ai-edge-litert`` is installed."""
    return find_spec("ai_edge_litert") is not None


def schema() -> Any:
    """Import the flatbuffer schema of .tflite files.

    Raises:
        PluginError: ``ai-edge-litert`` is not installed, or does not load.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as problem:
        raise _missing(problem) from None
    return schema_py_generated


def interpreter_class() -> tuple[Any, Any]:
    """Import the interpreter, and the enumeration of its kernels.

    Raises:
        PluginError: as :func:`schema`.
    """
    try:
        from ai_edge_litert import interpreter
    except ImportError as problem:
        raise _missing(problem) from None
    return interpreter.Interpreter, interpreter.OpResolverType


def _missing(problem: ImportError) -> PluginError:
    reason = "is not installed" if not is_installed() else f"does not load ({first_line(problem)})"
    return PluginError(f"ai-edge-litert, which has the schema of .tflite files and runs them, {reason}; {WAY_OUT}")
