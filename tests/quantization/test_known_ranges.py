"""Ranges that are known without samples."""

from collections.abc import Callable

import onnx
import pytest

from dfq_deploy import find_target, load
from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.quantization.known_ranges import fixed_ranges

ModelOf = Callable[..., onnx.ModelProto]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        # TensorFlow Lite's quantization specification: LOGISTIC, SOFTMAX and TANH of 8 bits, and of 16.
        (8, {"s": (1 / 256, -128), "p": (1 / 256, -128), "t": (1 / 128, 0)}),
        (16, {"s": (1 / 32768, 0), "p": (1 / 32768, 0), "t": (1 / 32768, 0)}),
    ],
)
def test_fixed_kernels_get_the_encodings_of_the_specification(
    bits: int, expected: dict[str, tuple[float, int]], model_of: ModelOf
) -> None:
    model = load(
        model_of("float[1,4] x", "float[1,4] y", "s = Sigmoid (x) p = Softmax (s) t = Tanh (p) y = Relu (t)", {})
    )
    kind = QuantType(bits, signed=True, symmetric=bits == 16)
    types = dict.fromkeys(("s", "p", "t", "y"), kind)
    ranges = fixed_ranges(model, find_target("litert"), types)
    encodings = {name: Encoding.of_range(span, kind) for name, span in ranges.items()}
    assert encodings.keys() == expected.keys()
    for name, (scale, zero) in expected.items():
        assert float(encodings[name].scale) == pytest.approx(scale, rel=1e-6)
        assert int(encodings[name].zero_point) == zero
    assert fixed_ranges(model, find_target("cpu"), types) == {}
