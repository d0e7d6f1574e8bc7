"""How a result was made: command, options, versions, machine."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dfq_deploy.graph.large_models import fingerprint

__all__ = ["RunSection", "file_digest", "plain_options", "python_call", "run_section"]

PACKAGES = ("dfq-deploy", "torch", "onnx", "onnx-ir", "onnxruntime", "numpy")

LONGEST = 200
"""Characters of an option that is no text or number."""


@dataclass(frozen=True)
class RunSection:
    """What another run needs to give the same files.

    Args:
        command: the command line, or the call in Python.
        options: those that were given, by name.
        versions: by package, Python's too.
        model_sha256: of the model's file; of its graph and weights, 16 digits, where it is no file.
        machine, processor, cores, threads: what it ran on.
        date: of the report, UTC, ISO 8601.
    """

    command: str
    options: Mapping[str, str]
    versions: Mapping[str, str]
    model_sha256: str
    machine: str
    processor: str
    cores: int
    threads: int
    date: str


def run_section(command: str, options: Mapping[str, str], file: Path | None, model: ir.Model) -> RunSection:
    """The section of this run.

    Args:
        file: of the model; None where it was given in memory.
    """
    import torch

    return RunSection(
        command=command,
        options=options,
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        model_sha256=file_digest(file) if file is not None and file.is_file() else fingerprint([model]),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def plain_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults and are not empty: numbers and flags as they are, others as text."""
    given = {name: value for name, value in options.items() if not _is_empty(value)}
    return {name: _plain(value) for name, value in given.items() if not _same(value, defaults.get(name))}


def python_call(function: str, model: str, options: Mapping[str, Any]) -> str:
    """The call of these options (:func:`plain_options`); what is no text, number or flag stands in angle brackets."""
    listed = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"dfq_deploy.{function}({model!r}{listed})"


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str | tuple | list | dict) and not value)


def _same(value: Any, default: Any) -> bool:
    return isinstance(value, str | int | float) and type(value) is type(default) and value == default


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple) and all(isinstance(entry, str | int | float) for entry in value):
        return list(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    text = " ".join(str(value).split())
    return f"<{type(value).__name__}>" if " object at 0x" in text or len(text) > LONGEST else f"<{text}>"


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        digest = sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _processor() -> str:
    """The processor's name, as Linux has it; what Python knows elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
