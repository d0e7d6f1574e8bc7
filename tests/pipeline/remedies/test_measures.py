"""Which remedies there are to try for a result."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.remedies.floor import Floor
from dfq_deploy.pipeline.remedies.measures import REMEDIES
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.targets.catalog import find_target
from tests.conftest import ModelOf

DYNAMIC = next(remedy for remedy in REMEDIES if remedy.__name__ == "_dynamic")


def trials(model_of: ModelOf, target: str = "cpu", bits: Bits | None = None, **choices: str) -> list[str]:
    weights = {"w": np.ones((256, 256), np.float32), "v": np.ones((256, 256), np.float32)}
    text = "a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)"
    model = load(model_of("float[n,4,256] x", "float[n,4,256] y", text, weights))
    plan = SimpleNamespace(activations="auto", target=find_target(target))
    quantized = SimpleNamespace(prepared=SimpleNamespace(bits=bits or Bits()))
    best: Any = SimpleNamespace(
        setting=SimpleNamespace(plan=plan), fitted=SimpleNamespace(quantized=quantized, choices=choices)
    )
    bench: Any = SimpleNamespace(source=model)
    return [trial.what for trial in DYNAMIC(bench, best, Floor())]


def test_dynamic_activations_are_tried_once_and_only_where_there_are_kernels(model_of: ModelOf) -> None:
    assert trials(model_of) == ["--activations dynamic for 2 layers"]
    assert trials(model_of, activations="static") == []
    assert trials(model_of, target="tensorrt") == []
    assert trials(model_of, bits=Bits(4, 8)) == []
