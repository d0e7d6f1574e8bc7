"""Which remedies there are to try for a result."""

from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.remedies.attempts import Setting
from dfq_deploy.pipeline.remedies.floor import Floor
from dfq_deploy.pipeline.remedies.measures import REMEDIES, Result
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.overrides import Override, Overrides
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target
from tests.conftest import ModelOf

DYNAMIC, SCALED = (next(remedy for remedy in REMEDIES if remedy.__name__ == name) for name in ("_dynamic", "_scaled"))


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


def scaled(model_of: ModelOf, synthetic: bool, results: Sequence[Result]) -> list[str]:
    model = load(model_of("float[n,4,256] x", "float[n,4,256] y", "a = Relu(x) y = Neg(a)", {}))
    encodings = {name: Encoding.of_range(Range(-1.0, 1.0), QuantType(8, False, False)) for name in "xay"}
    best: Any = SimpleNamespace(
        setting=SimpleNamespace(samples=SimpleNamespace(is_synthetic=synthetic)),
        fitted=SimpleNamespace(
            quantized=SimpleNamespace(
                encodings=encodings, prepared=SimpleNamespace(placement=SimpleNamespace(shared=()))
            ),
            reference=model,
        ),
    )
    trials = SCALED(SimpleNamespace(), best, Floor())  # type: ignore[arg-type]
    said = []
    with suppress(StopIteration):
        said.append(next(trials).what)
        for result in results:
            said.append(trials.send(result).what)
    return said


def test_ranges_are_made_wider_and_only_where_that_does_not_help_narrower(model_of: ModelOf) -> None:
    wider, narrower = "1.4 times the range of 2 tensors", "0.85 times the range of 2 tensors"
    assert scaled(model_of, True, ["kept"]) == [wider]
    assert scaled(model_of, True, ["no gain", "no gain"]) == [wider, narrower]
    assert scaled(model_of, False, []) == []


def test_of_the_ranges_that_remedies_give_a_tensor_the_last_counts() -> None:
    asked, gate = Override("tensor", "a", "ranges.toml", range=Range(0, 3)), Override("tensor", "b", "remedies")
    wide = [Override("tensor", name, "remedies", range=Range(-2, 2)) for name in "ab"]
    plan: Any = CalibrationPlan(find_target("cpu"), Bits(), None, overrides=Overrides(entries=(gate, asked)))  # type: ignore[arg-type]
    setting = Setting(plan, Samples(np.zeros((1, 1), np.float32)))
    assert setting.overriding(wide).plan.overrides.entries == (*wide, asked)


def test_factors_come_on_top_of_what_other_remedies_give() -> None:
    asked, known = Override("tensor", "a", "ranges.toml", range=Range(0, 3)), Override("tensor", "b", "remedies")
    scaled = [Override("tensor", name, "remedies", factor=0.85) for name in "ab"]
    plan: Any = CalibrationPlan(find_target("cpu"), Bits(), None, overrides=Overrides(entries=(known, asked)))  # type: ignore[arg-type]
    setting = Setting(plan, Samples(np.zeros((1, 1), np.float32)))
    assert setting.overriding(scaled).plan.overrides.entries == (known, *scaled, asked)
