"""How an engine is built: TensorRT's own progress interface, and a builder that notes what it is asked for."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from dfq_deploy.exporters import tensorrt_engine as plugin
from dfq_deploy.exporters.tensorrt_engine import EngineOptions, build_engine, monitor_of

from dfq_deploy.errors import TargetError
from dfq_deploy.progress import Progress

Virtual = Callable[..., Callable[..., Any]]

# The order of virtual functions in NvInfer.h: language, interface, two destructors, and these.
PHASE_START, STEP_COMPLETE, PHASE_FINISH = 4, 5, 6


class Notes(Progress):
    """A display that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def start(self, task: str, total: int) -> None:
        self.said.append((task, total))

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.said.append(steps)


class CPlusPlus:
    """Calls a progress monitor as TensorRT does."""

    def __init__(self, monitor: object, virtual: Virtual) -> None:
        text, number = ctypes.c_char_p, ctypes.c_int
        self.start = virtual(monitor, PHASE_START, None, text, text, number)
        self.step = virtual(monitor, STEP_COMPLETE, ctypes.c_bool, text, number)
        self.finish = virtual(monitor, PHASE_FINISH, None, text)


def test_outermost_phases_are_shown(tensorrt_bindings: ModuleType, virtual: Virtual) -> None:
    notes = Notes()
    monitor = monitor_of(tensorrt_bindings, notes)
    native = CPlusPlus(monitor, virtual)
    native.start(b"Building", None, 2)
    native.start(b"Tactics", b"Building", 9)
    assert native.step(b"Tactics", 0)
    native.finish(b"Tactics")
    assert native.step(b"Building", 0)
    native.finish(b"Building")
    assert notes.said == [("TensorRT: Building", 2), 1]


def test_an_interrupt_stops_the_build_and_is_kept(tensorrt_bindings: ModuleType, virtual: Virtual) -> None:
    class Interrupted(Notes):
        def advance(self, steps: int = 1, **figures: float) -> None:
            raise KeyboardInterrupt

    monitor = monitor_of(tensorrt_bindings, Interrupted())
    native = CPlusPlus(monitor, virtual)
    native.start(b"Building", None, 2)
    assert not native.step(b"Building", 0)
    assert isinstance(monitor.problem, KeyboardInterrupt)


class Config:
    """Notes what is set; takes no timing cache of another GPU."""

    noted: dict[str, Any]

    def __init__(self) -> None:
        self.__dict__["noted"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        self.noted[name] = value

    def add_optimization_profile(self, profile: Any) -> None:
        self.noted["profile"] = profile.shapes

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.noted[pool.name] = size

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.noted["timing"] = cache
        return not ignore_mismatch and cache != b"of another GPU"

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.noted["timing"] + b"+")


class Builder:
    """Makes an engine of nothing; ``plan`` is what comes of it."""

    plan: bytes | None = b"engine"
    virtual: Virtual
    flags: int
    shape: tuple[int, ...] = (-1, 3, 4)
    config = Config()

    def __init__(self, _: object) -> None:
        type(self).config = Config()

    def create_network(self, flags: int) -> Any:
        type(self).flags = flags
        return SimpleNamespace(num_inputs=1, get_input=lambda _: SimpleNamespace(name="x", shape=self.shape))

    def create_builder_config(self) -> Config:
        return self.config

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *given: shapes.update({name: given}))

    def build_serialized_network(self, _: Any, config: Config) -> bytes | None:
        native = CPlusPlus(config.noted["progress_monitor"], self.virtual)
        native.start(b"Building", None, 1)
        return self.plan if native.step(b"Building", 0) else None


@pytest.fixture
def builder(tensorrt_bindings: ModuleType, virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    class Own(Builder):
        pass

    Own.virtual = staticmethod(virtual)
    monkeypatch.setattr(tensorrt_bindings, "Builder", Own)
    monkeypatch.setattr(tensorrt_bindings, "OnnxParser", lambda *_: SimpleNamespace(parse=lambda *_: True))
    monkeypatch.setattr(plugin, "tensorrt_package", lambda: tensorrt_bindings)
    return Own


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"read by TensorRT alone")
    return tmp_path / "model.onnx"


def test_what_is_asked_for_reaches_the_builder(
    builder: type[Builder], tensorrt_bindings: ModuleType, source: Path
) -> None:
    notes = Notes()
    options = EngineOptions(batch=4, max_batch=16, workspace_mib=64, level=5)
    assert build_engine(source, options, notes) == b"engine"
    assert builder.flags == 1 << int(tensorrt_bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    noted = builder.config.noted
    assert noted["profile"] == {"x": ((1, 3, 4), (4, 3, 4), (16, 3, 4))}
    assert noted["WORKSPACE"] == 64 * 2**20
    assert noted["builder_optimization_level"] == 5
    assert "timing" not in noted
    assert notes.said == [("TensorRT: Building", 1), 1]


def test_a_fixed_network_gets_no_profile_and_the_workspace_no_limit(builder: type[Builder], source: Path) -> None:
    builder.shape = (2, 3, 4)
    build_engine(source, EngineOptions())
    assert not {"profile", "WORKSPACE"} & set(builder.config.noted)


@pytest.mark.parametrize(("before", "attached"), [(None, b""), (b"measured", b"measured"), (b"of another GPU", b"")])
def test_the_timing_cache_is_read_and_written(
    builder: type[Builder], source: Path, before: bytes | None, attached: bytes
) -> None:
    timing = source.with_name("timing.cache")
    if before is not None:
        timing.write_bytes(before)
    build_engine(source, EngineOptions(timing_cache=str(timing)))
    assert builder.config.noted["timing"] == attached
    assert timing.read_bytes() == attached + b"+"


def test_more_than_an_open_batch_is_refused(builder: type[Builder], source: Path) -> None:
    builder.shape = (-1, 3, -1)
    with pytest.raises(
        TargetError, match=r"^input 'x' of shape \(\?, 3, \?\) is open beyond the batch; close it with --f"
    ):
        build_engine(source, EngineOptions())


def test_a_failed_build_is_one_line_and_writes_no_timing_cache(builder: type[Builder], source: Path) -> None:
    builder.plan = None
    with pytest.raises(TargetError, match=r"^TensorRT [\d.]+ cannot build the engine: it gives no reason$"):
        build_engine(source, EngineOptions(timing_cache=str(source.with_name("timing.cache"))))
    assert not source.with_name("timing.cache").exists()


@pytest.mark.usefixtures("builder")
def test_an_interrupt_comes_out_of_the_build(source: Path) -> None:
    class Interrupted(Notes):
        def start(self, task: str, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(source, EngineOptions(), Interrupted())
