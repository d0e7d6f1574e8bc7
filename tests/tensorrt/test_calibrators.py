"""The calibrators for TensorRT 10: NVIDIA's own classes, called as TensorRT's C++ calls them."""

import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from dfq_deploy.calibrators import tensorrt as plugin
from dfq_deploy.calibrators.tensorrt import TensorRT, TensorRTEntropy, TensorRTMinMax, calibrator_of
from dfq_deploy.calibrators.tensorrt_batches import DeviceBatches, equal_batches

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import ModelError, OutputError, PluginError, SamplesError, TargetError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.graph.loading import load

ModelOf = Callable[..., onnx.ModelProto]
Virtual = Callable[..., Callable[..., Any]]

S8 = QuantType(8, signed=True, symmetric=True)

# The order of virtual functions in NvInfer.h of TensorRT 10: language, interface, two destructors, and these.
BATCH_SIZE, BATCH, READ, WRITE, ALGORITHM = 4, 5, 6, 7, 8

INTERFACES = [("IInt8EntropyCalibrator2", 2), ("IInt8MinMaxCalibrator", 3)]
"""With TensorRT's number of the algorithm."""


class CPlusPlus:
    """Calls a calibrator as TensorRT does."""

    def __init__(self, calibrator: object, virtual: Virtual) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.batch_size = virtual(calibrator, BATCH_SIZE, ctypes.c_int)
        self.algorithm = virtual(calibrator, ALGORITHM, ctypes.c_int)
        self._batch = virtual(calibrator, BATCH, ctypes.c_bool, pointer, pointer, ctypes.c_int)
        self._read = virtual(calibrator, READ, pointer, pointer)
        self._write = virtual(calibrator, WRITE, None, ctypes.c_char_p, size)

    def batch(self, *names: str) -> list[int] | None:
        bindings = (ctypes.c_void_p * len(names))()
        listed = (ctypes.c_char_p * len(names))(*(name.encode() for name in names))
        return [address or 0 for address in bindings] if self._batch(bindings, listed, len(names)) else None

    def read(self) -> bytes | None:
        length = ctypes.c_size_t()
        address = self._read(ctypes.byref(length))
        return None if address is None else ctypes.string_at(address, length.value)

    def write(self, content: bytes) -> None:
        self._write(content, len(content))


def batches_of(*arrays: Any) -> list[Feeds]:
    return [{"x": np.asarray(array, np.float32)} for array in arrays]


def fed(*arrays: Any) -> DeviceBatches:
    return DeviceBatches(equal_batches(batches_of(*arrays), "x"), "x", "cpu")


def floats(address: int, count: int) -> list[float]:
    return list((ctypes.c_float * count).from_address(address))


@pytest.mark.parametrize(("interface", "algorithm"), INTERFACES)
def test_tensorrt_gets_its_batches(tensorrt10: ModuleType, virtual: Virtual, interface: str, algorithm: int) -> None:
    calibrator = calibrator_of(tensorrt10, interface, fed([[1, 2], [3, 4]], [[5, 6]]))
    assert isinstance(calibrator, getattr(tensorrt10, interface))
    native = CPlusPlus(calibrator, virtual)
    assert native.algorithm() == algorithm
    assert native.batch_size() == 2
    seen = []
    while addresses := native.batch("x"):
        seen.append(floats(addresses[0], 4))
    assert seen == [[1, 2, 3, 4], [5, 6, 1, 2]]
    assert calibrator.problem is None


def test_tensorrt_reads_and_writes_the_cache(tensorrt10: ModuleType, virtual: Virtual, tmp_path: Path) -> None:
    path = tmp_path / "calibration.cache"
    calibrator = calibrator_of(tensorrt10, "IInt8EntropyCalibrator2", fed([[1]]), path)
    native = CPlusPlus(calibrator, virtual)
    assert native.read() is None
    content = b"TRT-101601-EntropyCalibration2\nx: 3c010204\n"
    native.write(content)
    assert path.read_bytes() == content
    assert calibrator.written == content
    assert CPlusPlus(calibrator_of(tensorrt10, "IInt8MinMaxCalibrator", fed([[1]]), path), virtual).read() == content


def test_without_a_file_the_cache_stays_in_memory(tensorrt10: ModuleType, virtual: Virtual) -> None:
    calibrator = calibrator_of(tensorrt10, "IInt8EntropyCalibrator2", fed([[1]]))
    native = CPlusPlus(calibrator, virtual)
    assert native.read() is None
    native.write(b"content")
    assert calibrator.written == b"content"


def test_what_goes_wrong_in_a_callback_is_kept(tensorrt10: ModuleType, virtual: Virtual, tmp_path: Path) -> None:
    path = tmp_path / "calibration.cache"
    calibrator = calibrator_of(tensorrt10, "IInt8EntropyCalibrator2", fed([[1]], [[2]]), path)
    native = CPlusPlus(calibrator, virtual)
    assert native.batch("other") is None
    assert isinstance(calibrator.problem, SamplesError)
    assert native.batch("x") is None, "a calibration that lacks a batch must not go on"
    native.write(b"of a part of the samples")
    assert not path.exists()


def test_an_interrupt_and_a_full_disk_are_kept_too(tensorrt10: ModuleType, virtual: Virtual, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Feeds]:
        yield from batches_of([[1]])
        raise KeyboardInterrupt

    calibrator = calibrator_of(tensorrt10, "IInt8EntropyCalibrator2", DeviceBatches(interrupted(), "x", "cpu"))
    assert CPlusPlus(calibrator, virtual).batch("x") is None
    assert isinstance(calibrator.problem, KeyboardInterrupt)
    (tmp_path / "file").touch()
    calibrator = calibrator_of(tensorrt10, "IInt8EntropyCalibrator2", fed([[1]]), tmp_path / "file/calibration.cache")
    CPlusPlus(calibrator, virtual).write(b"content")
    assert isinstance(calibrator.problem, OutputError)


class Builder:
    """Calibrates as TensorRT does, but measures the input alone."""

    virtual: Virtual

    def __init__(self, _: object) -> None:
        pass

    def create_network(self, flags: int) -> Any:
        assert flags == 0, "a strongly typed network takes no calibrator"
        return SimpleNamespace(num_inputs=1, get_input=lambda _: SimpleNamespace(name="x", shape=(-1, 2)))

    def create_builder_config(self) -> Any:
        set_: list[Any] = []
        return SimpleNamespace(
            flags=set_, set_flag=set_.append, add_optimization_profile=set_.append, set_calibration_profile=set_.append
        )

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *given: shapes.update({name: given}))

    def build_serialized_network(self, _: Any, config: Any) -> bytes | None:
        profile, calibrated, flag = config.flags
        assert profile is calibrated
        assert flag == "INT8"
        assert profile.shapes == {"x": ((2, 2),) * 3}
        native = CPlusPlus(config.int8_calibrator, self.virtual)
        if native.read() is None:
            largest = 0.0
            while addresses := native.batch("x"):
                largest = max(largest, *map(abs, floats(addresses[0], 2 * native.batch_size())))
            scale = struct.pack(">f", largest / 127).hex()
            native.write(f"TRT-101601-EntropyCalibration2\nx: {scale}\n".encode())
        return b"engine"


@pytest.fixture
def builder(tensorrt10: ModuleType, virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    """The real package with another builder and parser, and host memory instead of a GPU's."""

    class Own(Builder):
        pass

    Own.virtual = staticmethod(virtual)
    monkeypatch.setattr(tensorrt10, "Builder", Own)
    parser = SimpleNamespace(parse=lambda *_: True)
    monkeypatch.setattr(tensorrt10, "OnnxParser", lambda *_: parser)
    monkeypatch.setattr(tensorrt10, "BuilderFlag", SimpleNamespace(INT8="INT8"))
    monkeypatch.setattr(plugin, "gpu_obstacle", lambda: "")
    monkeypatch.setattr(plugin, "DEVICE", "cpu")
    return Own


@pytest.fixture
def model(model_of: ModelOf) -> Any:
    return load(model_of("float[n,2] x", "float[n,2] y", "a = Relu(x)\n y = MatMul(a, w)", {"w": np.eye(2, dtype="f")}))


BATCHES = batches_of([[1, -2], [0.5, 0.25]], [[1, 1], [0, 0]], [[1, -63.5]])


@pytest.mark.usefixtures("builder")
def test_ranges_are_what_tensorrt_measured(model: Any, tmp_path: Path) -> None:
    found = TensorRTEntropy(tmp_path / "c").ranges(model, {"x": S8, "a": S8}, BATCHES)
    assert found == {"x": Range(-63.5, 63.5), "a": Range(-63.5, 63.5)}
    assert (tmp_path / "c").read_bytes() == b"TRT-101601-EntropyCalibration2\nx: 3f000000\n"


@pytest.mark.usefixtures("builder")
def test_a_cache_that_is_there_is_used(model: Any, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"TRT-101601-EntropyCalibration2\nx: 3c010204\n")
    found = TensorRTEntropy(tmp_path / "c").ranges(model, {"x": S8}, BATCHES)
    assert found["x"].high == pytest.approx(1.0, rel=1e-7)


@pytest.mark.usefixtures("builder")
def test_a_tensor_that_tensorrt_did_not_measure_is_one_line(model: Any) -> None:
    with pytest.raises(ModelError, match=r"^TensorRT has measured no range for 1 tensor\(s\), such as 'y'; use"):
        TensorRTMinMax().ranges(model, {"x": S8, "y": S8}, BATCHES)


def test_a_failed_build_is_one_line(builder: type[Builder], model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "build_serialized_network", lambda *_: None)
    with pytest.raises(TargetError, match=r"^TensorRT 10\.16\.1\.11 cannot build the engine: it gives no reason$"):
        TensorRTEntropy().ranges(model, {"x": S8}, BATCHES)


@pytest.mark.usefixtures("builder")
def test_what_goes_wrong_with_the_samples_comes_out_of_the_build(model: Any) -> None:
    def broken() -> Iterable[Feeds]:
        yield from batches_of([[1, 2], [3, 4]], [[1, 2], [3, 4]])
        raise SamplesError("samples: the disk is gone")

    with pytest.raises(SamplesError, match=r"^samples: the disk is gone$"):
        TensorRTEntropy().ranges(model, {"x": S8}, broken())


@pytest.mark.usefixtures("tensorrt11")
@pytest.mark.parametrize("calibrator", [TensorRTEntropy, TensorRTMinMax])
def test_version_11_has_no_calibrators(calibrator: type[TensorRT]) -> None:
    with pytest.raises(PluginError) as caught:
        calibrator()
    assert str(caught.value) == (
        f"TensorRT 11.4.0.106 has no {calibrator.interface}: version 11 removed calibration and quantizes by Q and "
        "DQ; omit --calibrator, and build from the model.qdq.onnx that --target tensorrt writes"
    )


@pytest.mark.usefixtures("no_tensorrt")
def test_without_the_package_the_way_out_is_said() -> None:
    with pytest.raises(PluginError, match=r"^TensorRT's Python package does not load \(.*\); install TensorRT on a"):
        TensorRTEntropy()


@pytest.mark.usefixtures("tensorrt10")
def test_without_a_gpu_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "gpu_obstacle", lambda: "torch finds no NVIDIA GPU")
    with pytest.raises(PluginError) as caught:
        TensorRTMinMax()
    assert str(caught.value) == (
        "IInt8MinMaxCalibrator measures on the GPU, but torch finds no NVIDIA GPU; use --calibrator entropy or minmax"
    )
