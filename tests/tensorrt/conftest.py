"""NVIDIA's own Python classes without TensorRT's libraries."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import pytest

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")

SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry"),
    *("getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins"),
)
"""All that the bindings take from those libraries when they load."""


@pytest.fixture(scope="session")
def tensorrt_bindings(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The package ``tensorrt_bindings``: the real one, over libraries of empty functions where TensorRT is missing."""
    try:
        major = version("tensorrt-cu13-bindings").partition(".")[0]
    except PackageNotFoundError:
        pytest.skip("tensorrt-cu13-bindings is not installed; pip install -e '.[dev]' does it on Linux")
    if importlib.util.find_spec("tensorrt_libs") is None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler for the libraries that the TensorRT bindings load")
        folder = tmp_path_factory.mktemp("stub")
        source = folder / "stub.c"
        source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in SYMBOLS))
        for library in LIBRARIES:
            name = f"lib{library}.so.{major}"
            command = [compiler, "-shared", "-fPIC", "-o", str(folder / name), str(source), f"-Wl,-soname,{name}"]
            subprocess.run(command, check=True)
            # The loader takes a library that is there already for one of the same name that another needs.
            ctypes.CDLL(str(folder / name))
    return importlib.import_module("tensorrt_bindings")


@pytest.fixture
def tensorrt10(tensorrt_bindings: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same as ``import tensorrt`` finds it, if it is version 10."""
    if not tensorrt_bindings.__version__.startswith("10."):
        pytest.skip(f"the bindings are version {tensorrt_bindings.__version__}, which has no calibrators")
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_bindings)
    return tensorrt_bindings


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """``import tensorrt`` fails, whatever is installed."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture
def tensorrt11(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What version 11 says of itself, and no calibrator."""
    module = ModuleType("tensorrt")
    module.__dict__["__version__"] = "11.4.0.106"
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def virtual() -> Callable[..., "Callable[..., object]"]:
    """A virtual function of a calibrator, to be called as TensorRT's C++ calls it."""
    return _virtual


def _virtual(calibrator: object, slot: int, result: object, *arguments: object) -> "Callable[..., object]":
    # A pybind11 instance holds the address of its C++ object behind the head that all Python objects have; the object
    # begins with the address of its table of virtual functions.
    head = object.__basicsize__
    instance = ctypes.c_void_p.from_address(id(calibrator) + head).value or 0
    table = ctypes.c_void_p.from_address(instance).value or 0
    address = ctypes.c_void_p.from_address(table + slot * ctypes.sizeof(ctypes.c_void_p)).value
    function = ctypes.CFUNCTYPE(result, ctypes.c_void_p, *arguments)(address)  # type: ignore[arg-type]
    return lambda *values: function(instance, *values)
