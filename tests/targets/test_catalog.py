"""The table of runtimes."""

import dataclasses

import pytest

from dfq_deploy.checking import RULES
from dfq_deploy.errors import TargetError
from dfq_deploy.plugins.registry import installed_plugins
from dfq_deploy.refinement.registry import REFINEMENTS
from dfq_deploy.targets.catalog import REFUSED, TARGETS, find_target


def test_cpu_is_what_onnx_runtime_fuses_everywhere() -> None:
    cpu = find_target("cpu")
    assert (str(cpu.activation), cpu.activation.symmetric) == ("u8", False)
    assert (str(cpu.weight), cpu.weight.symmetric) == ("s8", True)
    assert cpu.per_channel
    assert {"Conv", "Gemm", "MatMul"} <= cpu.quantized_ops


@pytest.mark.parametrize(
    ("name", "activation", "weight", "per_channel", "static", "bias"),
    [
        ("cpu", "u8", "s8", True, False, "s32"),
        ("web", "u8", "s8", True, False, "s32"),
        ("openvino", "u8", "s8", True, False, "s32"),
        ("tensorrt", "s8", "s8", True, False, "float"),
        ("xnnpack", "s8", "s8", True, True, "s32"),
        ("litert", "s8", "s8", True, True, "s32"),
        ("nnapi", "u8", "s8", True, True, "s32"),
        ("nnapi-per-tensor", "u8", "u8", False, True, "s32"),
        ("qnn", "u8", "s8", True, True, "s32"),
        ("rknn", "s8", "s8", True, True, "float"),
        ("rknn-rv1106", "s8", "s8", True, True, "float"),
    ],
)
def test_the_table(name: str, activation: str, weight: str, per_channel: bool, static: bool, bias: str) -> None:
    target = find_target(name)
    assert (str(target.activation), str(target.weight), target.per_channel) == (activation, weight, per_channel)
    assert (activation, weight) in target.pairs
    assert (target.static_shapes, "float" if target.float_bias else "s32") == (static, bias)
    # Only TensorRT cannot do with a zero point; only signed weights are symmetric.
    assert target.activation.symmetric == (name == "tensorrt")
    assert target.weight.symmetric == (weight == "s8")


def test_what_a_target_names_is_there() -> None:
    for target in TARGETS.values():
        assert set(target.rules) <= set(RULES)
        assert set(target.refine) <= set(REFINEMENTS)
        assert target.whole_ops is None or target.quantized_ops <= target.whole_ops


def test_every_target_stands_under_its_own_name_and_cannot_be_changed() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        with pytest.raises(dataclasses.FrozenInstanceError):
            target.name = "other"  # type: ignore[misc]


def test_every_target_has_an_installed_exporter() -> None:
    offered = {plugin.name for plugin in installed_plugins() if plugin.kind == "exporters" and not plugin.problem}
    assert {target.exporter for target in TARGETS.values()} <= offered


def test_operators_stand_in_one_list_only() -> None:
    for target in TARGETS.values():
        assert not target.quantized_ops & target.passing_ops
        assert not target.quantized_ops & target.fused_activations
        assert not target.passing_ops & target.fused_activations
        assert target.float_output_ops <= target.quantized_ops


def test_unknown_target_lists_what_there_is() -> None:
    with pytest.raises(TargetError, match=r"^unknown target 'tpu'; installed: .*\bcpu\b"):
        find_target("tpu")


def test_core_ml_is_refused_with_the_way_out() -> None:
    with pytest.raises(TargetError, match=r"^target 'coreml' is refused: .*QuantizeLinear.*coremltools"):
        find_target("coreml")
    assert not set(REFUSED) & set(TARGETS)
