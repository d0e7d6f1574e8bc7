"""What inspect says will run in integers is what the quantized file has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import dfq_deploy
from dfq_deploy.inspection import estimate
from dfq_deploy.inspection.inspect import inspect
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.runtime.kernels import count_kernels

ModelOf = Callable[..., onnx.ModelProto]


def rows(count: KernelCount) -> list[tuple[str, str, str]]:
    return [(kernel.name, kernel.kernel, kernel.kind) for kernel in count.kernels]


def dense(model_of: ModelOf) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.1, (64, 64)).astype(np.float32) for name in ("a", "b")}
    weights |= {name: rng.normal(0, 0.1, 64).astype(np.float32) for name in ("c", "d")}
    nodes = "[one] m = MatMul(x, a) n = Add(m, c) r = Relu(n) [two] o = MatMul(r, b) y = Add(o, d)"
    return model_of("float[1,8,64] x", "float[1,8,64] y", nodes, weights)


@pytest.mark.parametrize("target", ["cpu", "openvino", "tensorrt", "nnapi"])
def test_the_estimate_is_what_the_file_has(tmp_path: Path, model_of: ModelOf, tiny: ModelOf, target: str) -> None:
    for index, model in enumerate((dense(model_of), tiny())):
        onnx.save(model, tmp_path / "net.onnx")
        result = dfq_deploy.calibrate(
            tmp_path / "net.onnx", synth="procedural", count=8, target=target, output=tmp_path / f"q{index}"
        )
        assert result.model_path is not None
        assert rows(inspect(tmp_path / "net.onnx", target=target).kernels) == rows(
            count_kernels(result.model_path, target)
        )


def test_layers_that_are_quantized_in_vain_are_said(model_of: ModelOf) -> None:
    found = inspect(dense(model_of))
    lost = found.kernels.dequantized
    problems = [advice for advice in found.advice if "will run in float" in advice.problem]
    assert len(problems) == (1 if lost else 0)
    for advice in problems:
        assert advice.problem.startswith(f"{len(lost)} of the layers that are quantized")
        assert advice.way_out == found.kernels.way_out
    assert found.to_json()["kernels"]["integer"] == found.kernels.integer


def test_a_large_model_is_counted_by_rule(tiny: ModelOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LARGEST", 100)
    kernels = inspect(tiny()).kernels
    assert (kernels.integer, kernels.total) == (2, 2)
    assert kernels.reason == "over 0 MB of weights"


@pytest.mark.parametrize("net", ["akamaster_resnet20_cifar10", "vit_cifar10"])
def test_real_networks(zoo: Path, tmp_path: Path, net: str) -> None:
    model = zoo / "models" / f"{net}.onnx"
    result = dfq_deploy.calibrate(model, synth="procedural", count=8, output=tmp_path / "q")
    assert result.model_path is not None
    assert rows(inspect(model).kernels) == rows(count_kernels(result.model_path))
