"""Which nodes stay float for the noisiest layers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.remedies.worst import depthwise_nodes, nodes_to_keep, reads_swishes
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.noise.causes import Cause
from dfq_deploy.verdict.noise.sensitivity import LayerNoise, Sensitivity
from dfq_deploy.verdict.noise.what_hurts import HurtingLayer, WhatHurts
from tests.conftest import ModelOf

TEXT = " ".join(
    f"c{index} = Conv({before}, w) r{index} = Relu(c{index})"
    for index, before in enumerate(["x", "r0", "r1", "r2", "r3"])
)


@pytest.fixture
def model(model_of: ModelOf) -> ir.Model:
    """Conv_0, Relu_1, Conv_2, ... Conv_8, HardSwish_10."""
    weights = {"w": np.ones((4, 4, 1, 1), np.float32)}
    return load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", f"{TEXT} y = HardSwish(r4)", weights))


def layer(node: str, reads: str, share: float, operator: str = "Conv") -> LayerNoise:
    return LayerNoise(node, operator, "w" if operator == "Conv" else "", (reads,), 20.0, share, None)


def noise(*layers: LayerNoise, causes: dict[str, str] | None = None) -> WhatHurts:
    worst = tuple(
        HurtingLayer(entry, (Cause((causes or {})[entry.node], "ordinary", "", 0.0, 1.0),), ("",))
        for entry in layers
        if entry.node in (causes or {})
    )
    return WhatHurts(Sensitivity(layers, 10.0, 100.0, 8, "twin", 0.1), worst)


def nodes_of(model: ir.Model, hurts: WhatHurts, kept: Sequence[str] = ()) -> list[tuple[int, tuple[str, ...]]]:
    return [(rung.count, rung.nodes) for rung in nodes_to_keep(model, hurts, kept)]


CONVS = [layer(f"Conv_{2 * index}", "x" if index == 0 else f"r{index - 1}", 0.2 - 0.01 * index) for index in range(5)]


def test_a_noisy_weight_keeps_its_layer_alone(model: ir.Model) -> None:
    hurts = noise(CONVS[2], CONVS[4], CONVS[0], CONVS[1], CONVS[3], causes={"Conv_4": "w", "Conv_8": "w"})
    assert nodes_of(model, hurts) == [(1, ("Conv_4",)), (2, ("Conv_4", "Conv_8"))]


def test_a_noisy_input_keeps_what_writes_it_too(model: ir.Model) -> None:
    hurts = noise(CONVS[2], *CONVS[3:], *CONVS[:2], causes={"Conv_4": "r1"})
    assert nodes_of(model, hurts)[0] == (1, ("Conv_4", "Conv_2"))


def test_an_operator_without_a_weight_is_mended_before_it(model: ir.Model) -> None:
    hurts = noise(layer("HardSwish_10", "r4", 0.5, "HardSwish"), *CONVS)
    assert nodes_of(model, hurts)[0] == (1, ("Conv_8",))


def test_half_of_the_layers_stay_quantized(model: ir.Model) -> None:
    hurts = noise(*CONVS, causes={entry.node: "w" for entry in CONVS})
    assert [count for count, _ in nodes_of(model, hurts)] == [1, 2]
    assert nodes_of(model, noise(CONVS[0])) == []


def test_or_half_of_the_weights(model: ir.Model) -> None:
    # Four of five layers hold a fifth of the weights.
    large = ir.val("large", const_value=ir.tensor(np.ones((4, 64, 1, 1), np.float32)))
    model.graph.register_initializer(large)
    next(node for node in model.graph if node.name == "Conv_8").replace_input_with(1, large)
    hurts = noise(*CONVS, causes={entry.node: "w" for entry in CONVS})
    assert [count for count, _ in nodes_of(model, hurts)] == [1, 2, 4]


def test_what_is_float_already_counts_for_that_half(model: ir.Model) -> None:
    hurts = noise(*CONVS[:4], causes={entry.node: "w" for entry in CONVS})
    assert [count for count, _ in nodes_of(model, hurts, ["Conv_8"])] == [1]


def test_as_many_as_there_may_be_are_the_last(model: ir.Model) -> None:
    hurts = noise(*CONVS, *(layer(f"Relu_{2 * index + 1}", f"r{index}", 0.01, "Relu") for index in range(4)))
    large = ir.val("large", const_value=ir.tensor(np.ones((4, 64, 1, 1), np.float32)))
    model.graph.register_initializer(large)
    next(node for node in model.graph if node.name == "Conv_6").replace_input_with(1, large)
    assert [count for count, _ in nodes_of(model, hurts)] == [1, 2, 4, 6]


def test_the_gain_is_what_is_left_of_the_noise(model: ir.Model) -> None:
    hurts = noise(CONVS[2], CONVS[4], causes={"Conv_4": "w", "Conv_8": "w"})
    assert nodes_to_keep(model, hurts)[0].gain == pytest.approx(-10 * np.log10(1 - 0.18))


def test_hard_swishes_before_depthwise_layers_are_seen(model_of: ModelOf) -> None:
    weights = {"d": np.ones((4, 1, 3, 3), np.float32)}
    pair = [
        prepare(load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", text, weights)), find_target("cpu"))
        for text in (
            "a = HardSwish(x) y = Conv<group=4, pads=[1,1,1,1]>(a, d)",
            "a = Relu(x) y = Conv<group=4, pads=[1,1,1,1]>(a, d)",
        )
    ]
    names = [[str(node.name) for node in entry.model.graph if node.op_type == "Conv"] for entry in pair]
    assert [reads_swishes(entry, own) for entry, own in zip(pair, names, strict=True)] == [True, False]


def test_layers_that_were_measured_together_are_kept_together(model: ir.Model) -> None:
    pair = [replace(entry, measured=False, own_snr=10.0, share=0.3) for entry in CONVS[1:3]]
    causes = {entry.node: "w" for entry in CONVS}
    rungs = nodes_to_keep(model, noise(*pair, *CONVS[3:], CONVS[0], causes=causes))
    assert [(rung.count, rung.nodes) for rung in rungs] == [(2, ("Conv_2", "Conv_4"))]
    assert rungs[0].gain == pytest.approx(-10 * np.log10(1 - 0.6))
    assert nodes_of(model, noise(*(replace(entry, measured=False, share=0.2) for entry in CONVS))) == []


def test_depthwise_layers_are_found_where_others_stay_quantized(model_of: ModelOf) -> None:
    weights = {"w": np.ones((4, 4, 1, 1), np.float32), "d": np.ones((4, 1, 3, 3), np.float32)}
    both = "a = Conv(x, w) y = Conv<group=4, pads=[1,1,1,1]>(a, d)"
    alone = "y = Conv<group=4, pads=[1,1,1,1]>(x, d)"
    prepared = [
        prepare(load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", text, weights)), find_target("cpu"))
        for text in (both, alone)
    ]
    assert [depthwise_nodes(entry) for entry in prepared] == [("Conv_1",), ()]
