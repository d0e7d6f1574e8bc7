"""The checks for third parties, on all plug-ins of our own."""

from pathlib import Path
from typing import Any

import pytest

from dfq_deploy.errors import PluginError
from dfq_deploy.plugins.registry import find_plugin, installed_plugins
from dfq_deploy.synthesis.methods.lowpass import low_passed
from dfq_deploy.testing import check_calibrator, check_exporter, check_synthesizer

GENERATOR: dict[str, Any] = {"iterations": 4, "warmup": 2, "batch": 4, "channels": 8}
DESCENT: dict[str, Any] = {"iterations": 4, "batch": 2}

METHODS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("adversarial", "dfqf", "gdfq", "qimera"), GENERATOR),
    **dict.fromkeys(("deepinversion", "genie", "hast", "lis", "zeroq"), DESCENT),
    "anchored": {"iterations": 4},
    "psaq": {"iterations": 4},
    "analytic": {},
    "noise": {},
    "photographs": {},
    "procedural": {},
}
"""Options that make each method quick."""

EXPORTERS = {
    "litert": "litert",
    "ort": "xnnpack",
    "qdq": "cpu",
    "qnn": "qnn",
    "rknn": "rknn",
    "tensorrt": "tensorrt",
}
"""What each is quantized for; ``ort-runtime`` is ``ort`` with another default, and takes as long."""

OTHERS = {"ort-runtime", "aimet"}
"""``aimet`` writes no quantized model: tests/exporters tests it."""


def names(kind: str) -> set[str]:
    return {plugin.name for plugin in installed_plugins() if plugin.kind == kind}


def test_nothing_is_left_out() -> None:
    assert names("synthesizers") == set(METHODS)
    assert names("exporters") == {*EXPORTERS, *OTHERS}


@pytest.mark.parametrize("name", METHODS)
def test_synthesis_methods(name: str, checkout: Path) -> None:
    method = find_plugin("synthesizers", name)(**METHODS[name])
    # PSAQ looks at attention, which a convolutional network has not.
    check_synthesizer(method, model=checkout / "examples/digits_vit/digits_vit.onnx" if name == "psaq" else None)


@pytest.mark.parametrize("name", ["noise", "gdfq"])
def test_filtered_methods(name: str) -> None:
    check_synthesizer(low_passed(find_plugin("synthesizers", name)(**METHODS[name]), 40.0))


@pytest.mark.parametrize("name", sorted(names("calibrators")))
def test_calibrators(name: str) -> None:
    try:
        calibrator = find_plugin("calibrators", name)()
    except PluginError:
        assert name.startswith("tensorrt-")
        pytest.skip("no TensorRT 10 and GPU here")
    check_calibrator(calibrator)


@pytest.mark.parametrize("name", EXPORTERS)
def test_exporters(name: str) -> None:
    check_exporter(find_plugin("exporters", name), target=EXPORTERS[name])
