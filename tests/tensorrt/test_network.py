"""What is asked of TensorRT's Python package, against the real one."""

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dfq_deploy.errors import ModelError, PluginError
from dfq_deploy.runtime.tensorrt.package import log_of, read_network, tensorrt_package

FILES = [
    *("calibrators/tensorrt.py", "dfq_deploy/runtime/tensorrt/package.py"),
    *("exporters/tensorrt_engine.py", "exporters/tensorrt_run.py"),
]

OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
}
"""What an object of TensorRT is called in our code -> its class."""

REMOVED = {"set_calibration_profile", "int8_calibrator", "INT8"}
"""What version 11 no longer has, and only the calibrators of version 10 ask for."""


def asked(path: Path) -> set[tuple[str, ...]]:
    """Chains of attributes that are taken of the package, or of one of its objects: (class or module, name...)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value  # noqa: PLW2901 - walks down the chain
        chain = [node.id, *names] if isinstance(node, ast.Name) else names
        for index, name in enumerate(chain[:-1]):
            if name in ("trt", "_trt"):
                found.add(("", *chain[index + 1 :]))
            elif name in OBJECTS and (name.startswith("_") or index == 0 or chain[0] in ("draft", "self")):
                found.add((OBJECTS[name], chain[index + 1]))
    return found


@pytest.mark.parametrize("file", FILES)
def test_everything_that_is_asked_for_is_there(tensorrt_bindings: ModuleType, checkout: Path, file: str) -> None:
    chains = asked(checkout / file)
    assert len(chains) > 3, "the test looks in the wrong place"
    for owner, *names in chains:
        found: Any = getattr(tensorrt_bindings, owner) if owner else tensorrt_bindings
        for name in names:
            if tensorrt_bindings.__version__.startswith("11.") and name in REMOVED:
                continue
            assert hasattr(found, name), f"{owner or 'tensorrt'} has no {name}"
            found = getattr(found, name)


def test_the_log_keeps_first_lines_and_prints_nothing(
    tensorrt_bindings: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    log = log_of(tensorrt_bindings)
    severity = tensorrt_bindings.ILogger.Severity
    log.log(severity.ERROR, "Error Code 4: it is too large.\nand more")
    log.log(severity.INTERNAL_ERROR, "lost")
    log.log(severity.WARNING, "careful")
    log.log(severity.INFO, "on and on")
    log.log(severity.VERBOSE, "and on")
    assert (log.errors, log.warnings) == (["Error Code 4: it is too large", "lost"], ["careful"])
    assert capfd.readouterr() == ("", "")


class Parser:
    """Refuses whatever it is given, as TensorRT's does."""

    num_errors = 2

    def __init__(self, *_: object) -> None:
        pass

    def parse(self, *_: object) -> bool:
        return False

    def get_error(self, index: int) -> Any:
        operator, name, text = [("Einsum", "mix", "unsupported.\nin node 3"), ("", "", "the file is damaged")][index]
        return type(
            "Error",
            (),
            {"node_operator": lambda _: operator, "node_name": lambda _: name, "desc": lambda _: text},
        )()


class Builder:
    def __init__(self, _: object) -> None:
        pass

    def create_network(self, flags: int) -> int:
        return flags


def test_parser_errors_are_one_line(tensorrt_bindings: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_bindings, "OnnxParser", Parser)
    monkeypatch.setattr(tensorrt_bindings, "Builder", Builder)
    with pytest.raises(ModelError) as caught:
        read_network(tensorrt_bindings, b"", strongly_typed=True)
    assert str(caught.value) == (
        f"TensorRT {tensorrt_bindings.__version__} cannot read the model: "
        "Einsum 'mix': unsupported; the file is damaged"
    )


def test_a_version_without_strong_types_is_refused(tensorrt11: ModuleType) -> None:
    tensorrt11.__dict__["__version__"] = "8.6.1"
    with pytest.raises(PluginError) as caught:
        tensorrt_package()
    assert str(caught.value) == (
        "TensorRT 8.6.1 is too old: 10 or newer is needed here; build with its trtexec from the calibration.cache that "
        "--target tensorrt writes"
    )


@pytest.mark.usefixtures("no_tensorrt")
def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(PluginError, match=r"^TensorRT's Python package does not load \(.*\); install TensorRT on a ma"):
        tensorrt_package()
