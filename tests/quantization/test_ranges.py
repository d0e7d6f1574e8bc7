"""Ranges of a float model, and what follows from them."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.encodings import Range
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.quantization.ranges import derive_ranges, encodings_of_ranges, float_tensors
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

NODES = """
    a = Conv(x, w)
    b = Relu(a)
    c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    d = Conv(c, v)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = Gemm<transB = 1>(f, g)
"""


def ramp(*shape: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.fixture
def prepared(model_of: ModelOf) -> Prepared:
    weights = {"w": ramp(4, 3, 1, 1), "v": ramp(6, 4, 1, 1), "g": ramp(5, 6)}
    model = model_of("float[n,3,8,8] x", "float[n,5] y", NODES, weights)
    return prepare(load(model), find_target("tensorrt"))


def test_every_computed_float_tensor_is_listed_in_order(prepared: Prepared, model_of: ModelOf) -> None:
    assert float_tensors(prepared.model) == ("x", "a", "b", "c", "d", "e", "f", "y")
    shapes = model_of("float[n,3] x", "int64[2] s, float[n,3] y", "s = Shape(x)\n y = Mul(x, w)", {"w": ramp(3)})
    assert float_tensors(load(shapes)) == ("x", "y")


@pytest.mark.parametrize(
    ("known", "wanted", "range_", "said"),
    [
        ({"c": (0, 3)}, "c", (0, 3), []),
        ({"a": (-2, 3)}, "c", (-2, 3), ["c from a"]),  # up through MaxPool and Relu
        ({"d": (-2, 3)}, "f", (-2, 3), ["f from d"]),  # up through Flatten and GlobalAveragePool
        ({"f": (-1, 1)}, "e", (-1, 1), ["e from f"]),  # down through Flatten
        ({"f": (-1, 1)}, "d", None, []),  # not down through an average
        ({"b": (0, 1)}, "a", None, []),  # nor down through what a Relu cuts
        ({"c": (0, 1)}, "b", None, []),  # nor through a pool, whose windows may leave values out
        ({"x": (0, 1)}, "a", None, []),  # nor through a convolution
        ({"x": (0, 1)}, "other", None, []),
    ],
)
def test_ranges_follow_through_what_moves_bounds_or_averages(
    prepared: Prepared,
    known: dict[str, tuple[float, float]],
    wanted: str,
    range_: tuple[float, float] | None,
    said: list[str],
) -> None:
    spans = {name: Range(*span) for name, span in known.items()}
    assert derive_ranges(prepared.model, spans, [wanted]) == ({} if range_ is None else {wanted: Range(*range_)}, said)


def test_a_concat_takes_the_union_and_its_parts_the_whole(model_of: ModelOf) -> None:
    nodes = "a = Relu(x)\n b = Neg(x)\n c = Concat<axis = 1>(a, b)\n y = Identity(c)"
    model = load(model_of("float[n,3] x", "float[n,6] y", nodes, {}))
    parts = {"a": Range(0, 2), "b": Range(-3, 1)}
    assert derive_ranges(model, parts, ["y"]) == ({"y": Range(-3, 2)}, ["y from a, b"])
    assert derive_ranges(model, {"b": Range(-3, 1)}, ["c"]) == ({}, [])
    assert derive_ranges(model, {"y": Range(-3, 2)}, ["b"]) == ({"b": Range(-3, 2)}, ["b from y"])


@pytest.mark.parametrize(("low", "known"), [(0.0, True), (2.0, False)])
def test_a_clip_that_lifts_values_says_nothing(model_of: ModelOf, low: float, known: bool) -> None:
    model = load(model_of("float[n,3] x", "float[n,3] y", "y = Clip(x, l)", {"l": np.float32(low)}))
    assert bool(derive_ranges(model, {"x": Range(-1, 1)}, ["y"])[0]) is known


def test_encodings_come_from_ranges_and_weights_from_themselves(prepared: Prepared) -> None:
    known = {"x": Range(-1, 1), "b": Range(-12.7, 12.7), "f": Range(-2, 2), "gone": Range(0, 1)}
    encodings, notes = encodings_of_ranges(prepared.model, prepared, known, "old.cache")
    assert set(encodings) == {"x", "c", "f", "w", "v", "g"}
    scales = {name: encodings[name].scale for name in ("x", "c", "f")}
    assert scales == {"x": np.float32(1 / 127), "c": np.float32(0.1), "f": np.float32(2 / 127)}
    assert all(not encoding.zero_point.any() for encoding in encodings.values())
    np.testing.assert_allclose(encodings["w"].scale, np.abs(ramp(4, 3)).max(axis=1) / 127, rtol=1e-6)
    assert notes == (
        "old.cache has no range for 1 quantized tensor(s); they are derived: c from b",
        "old.cache: 1 of its 4 tensors are not in the model (gone); was it calibrated on this file?",
    )


def test_what_has_no_range_is_one_line(prepared: Prepared) -> None:
    with pytest.raises(ModelError) as caught:
        encodings_of_ranges(prepared.model, prepared, {"x": Range(-1, 1)}, "old.cache")
    assert str(caught.value) == (
        "old.cache: no range for 2 of the 3 tensors that tensorrt quantizes (c; f), and none follows from their "
        "neighbors; calibrate the model: dfq-deploy calibrate"
    )


def test_ranges_of_another_model_are_refused(prepared: Prepared) -> None:
    with pytest.raises(ModelError, match=r"^old.cache: none of its 2 tensors is in the model; it belongs to another"):
        encodings_of_ranges(prepared.model, prepared, {"p": Range(0, 1), "q": Range(0, 1)}, "old.cache")
