"""Token inputs at varied lengths: ids, masks, types, positions and counts agree."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy import calibrate, synthesize
from dfq_deploy.graph.inputs import ModelInput
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.known_ranges import softmax_ranges
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.sequences import Part, lengths, part_of

ModelOf = Callable[..., onnx.ModelProto]

SIZE = 12
"""Tokens of the longest sample."""


def test_lengths_reach_from_one_to_the_longest_which_comes_first() -> None:
    found = lengths(40, SIZE, 3)
    assert found[0] == SIZE
    assert set(found) == set(range(1, SIZE + 1))
    np.testing.assert_array_equal(found, lengths(40, SIZE, 3))
    assert list(found) != list(lengths(40, SIZE, 4))
    assert list(lengths(1, SIZE, 0)) == [SIZE]


def encoder(model_of: ModelOf, mask: str = "int64[n,12] attention_mask") -> onnx.ModelProto:
    """One attention over embedded tokens; hidden tokens get -1e4."""
    random = np.random.default_rng(0)
    nodes = """
    e = Gather(table, input_ids)  t = Gather(types, token_type_ids)  p = Gather(places, position_ids)
    et = Add(e, t)  h = Add(et, p)
    q = MatMul(h, wq)  k = MatMul(h, wk)  kt = Transpose<perm = [0, 2, 1]>(k)
    raw = MatMul(q, kt)  m = Cast<to = 1>(MASK)  off = Sub(m, one)  far = Mul(off, big)  wide = Unsqueeze(far, axis)
    scores = Add(raw, wide)  a = Softmax(scores)  y = MatMul(a, h)
    """
    weights = {
        **{name: random.normal(size=(8, 8)).astype(np.float32) / 3 for name in ("wq", "wk")},
        **{name: random.normal(size=(rows, 8)).astype(np.float32) for name, rows in TABLES.items()},
        **{"one": np.float32(1), "big": np.float32(1e4), "axis": np.array([1])},
    }
    inputs = f"int64[n,12] input_ids, {mask}, int64[n,12] token_type_ids, int64[n,12] position_ids"
    return model_of(inputs, "float[n,12,8] y", nodes.replace("MASK", mask.rsplit(maxsplit=1)[-1]), weights)


TABLES = {"table": 50, "types": 2, "places": 12}


def drawn(model: onnx.ModelProto, **options: object) -> Samples:
    return synthesize(model, synth="procedural", count=48, **options)  # type: ignore[arg-type]


def ends_of(samples: Samples) -> NDArray[np.int64]:
    return np.asarray(samples.extra["attention_mask"].sum(axis=1), np.int64)


def test_all_inputs_of_a_sample_have_its_length(model_of: ModelOf) -> None:
    samples = drawn(encoder(model_of))
    ends = ends_of(samples)
    assert (ends[0], ends.min(), ends.max()) == (SIZE, 1, SIZE)
    inside = np.arange(SIZE) < ends[:, None]
    np.testing.assert_array_equal(samples.extra["attention_mask"], inside)
    assert not samples.images[~inside].any()
    assert 0 < samples.images.max() < TABLES["table"]
    types = samples.extra["token_type_ids"]
    assert set(types[~inside]) == {0}
    assert set(np.unique(types)) == {0, 1}
    assert (np.diff(types, axis=1)[inside[:, 1:]] >= 0).all()  # one segment after the other
    np.testing.assert_array_equal(samples.extra["position_ids"], np.tile(np.arange(SIZE), (48, 1)))
    assert any(
        "1 up to the end of the sample and 0 after it, for lengths from 1 to 12" in note for note in samples.notes
    )


def test_a_stated_range_draws_otherwise(model_of: ModelOf) -> None:
    samples = drawn(encoder(model_of), input_ranges={"attention_mask": (0, 1)})
    mask = samples.extra["attention_mask"]
    assert (np.diff(mask, axis=1) > 0).any()  # not cut at one place
    assert samples.images[:, -1].any()


@pytest.mark.parametrize(
    ("name", "dtype", "found"),
    [("mask", "bool", True), ("src_padding_mask", "bool", False), ("mask", "float32", True)],
)
def test_masks_of_other_types(name: str, dtype: str, found: bool) -> None:
    ids, mask = ModelInput("ids", "int64", (None, 9)), ModelInput(name, dtype, (None, 1, 1, 9))
    assert part_of(mask, [ids, mask]) == (Part.MASK if found else Part.PADDING_MASK, 9)
    assert part_of(ids, [ids, mask]) == (Part.IDS, 9)


def test_what_is_no_sequence_is_left_alone() -> None:
    image, mask = ModelInput("image", "float32", (None, 3, 9, 9)), ModelInput("mask", "float32", (None, 1, 9, 9))
    ids, other = ModelInput("ids", "int64", (None, 9)), ModelInput("decoder_ids", "int64", (None, 9))
    assert part_of(mask, [image, mask]) is None
    assert part_of(ids, [ids]) is None
    assert part_of(other, [ids, ModelInput("mask", "int64", (None, 9)), other]) is None


def test_the_number_of_tokens_is_that_of_the_sample() -> None:
    ids, count = ModelInput("tokens", "int64", (None, 9)), ModelInput("token_lengths", "int64", (None,))
    assert part_of(ids, [ids, count]) == (Part.IDS, 9)
    assert part_of(count, [ids, count]) == (Part.LENGTH, 9)


def test_a_masked_softmax_reaches_from_0_to_1(model_of: ModelOf) -> None:
    masked = softmax_ranges(load(encoder(model_of)))
    assert {name: (span.low, span.high) for name, span in masked.items()} == {"a": (0.0, 1.0)}
    plain = model_of("float[n,4] x", "float[n,4] y", "y = Softmax(x)", {})
    assert softmax_ranges(load(plain)) == {}


def test_one_token_is_as_good_as_all(model_of: ModelOf, tmp_path: Path) -> None:
    proto = encoder(model_of)
    found = calibrate(proto, synth="procedural", count=64, seed=1, output=tmp_path / "out")
    assert found.model_path is not None
    sessions = [ort.InferenceSession(one) for one in (proto.SerializeToString(), str(found.model_path))]
    ratios = {}
    for length in (1, 4, SIZE):
        ids = np.random.default_rng(9).integers(1, TABLES["table"], (64, SIZE))
        mask = np.tile(np.arange(SIZE) < length, (64, 1)).astype(np.int64)
        places = np.tile(np.arange(SIZE), (64, 1))
        names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
        feeds = dict(zip(names, (ids * mask, mask, 0 * mask, places), strict=True))
        wanted, given = (session.run(None, feeds)[0][:, :length] for session in sessions)
        ratios[length] = 10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum())
    assert min(ratios.values()) > ratios[SIZE] - 3
    assert ratios[SIZE] > 25


def test_a_range_of_one_value_is_that_value(model_of: ModelOf) -> None:
    samples = drawn(encoder(model_of), input_ranges={"attention_mask": (1, 1)})
    assert (samples.extra["attention_mask"] == 1).all()


def beside_pictures(*names: str) -> list[ModelInput]:
    shapes = {"pixel_mask": (None, 12, 12), "features": (None, 12)}
    kinds = {"features": "float32"}
    picture = ModelInput("pixel_values", "float32", (None, 3, 8, 8))
    return [picture, *(ModelInput(name, kinds.get(name, "int64"), shapes.get(name, (None, 12))) for name in names)]


def test_tokens_beside_pictures_are_a_sequence() -> None:
    ports = beside_pictures("input_ids", "attention_mask", "position_ids", "pixel_mask", "features")
    assert [part_of(port, ports) for port in ports] == [
        None, (Part.IDS, 12), (Part.MASK, 12), (Part.POSITIONS, 12), None, None,
    ]  # fmt: skip
    assert part_of(ports[1], ports, stated=["attention_mask"]) is None


@pytest.mark.parametrize("names", [["input_ids"], ["attention_mask"], ["input_ids", "pixel_mask"]])
def test_nothing_is_cut_beside_pictures_without_tokens_and_their_mask(names: list[str]) -> None:
    ports = beside_pictures(*names)
    assert [part_of(port, ports) for port in ports] == [None] * len(ports)


def test_a_mask_beside_pictures_hides_the_end_of_the_tokens(model_of: ModelOf) -> None:
    nodes = """c = Conv(pixel_values, k) p = GlobalAveragePool(c) f = Flatten(p) e = Gather(table, input_ids)
    m = Cast<to = 1>(attention_mask) w = Unsqueeze(m, last) h = Mul(e, w) s = ReduceSum<keepdims = 0>(h, one)
    y = Add(f, s)"""
    random = np.random.default_rng(0)
    weights = {
        **{"k": random.normal(size=(8, 3, 3, 3)).astype(np.float32), "last": np.array([2]), "one": np.array([1])},
        "table": random.normal(size=(50, 8)).astype(np.float32),
    }
    inputs = "float[n,3,8,8] pixel_values, int64[n,12] input_ids, int64[n,12] attention_mask"
    samples = drawn(model_of(inputs, "float[n,8] y", nodes, weights))
    mask, ids = samples.extra["attention_mask"], samples.extra["input_ids"]
    assert set(mask.sum(axis=1)) == set(range(1, SIZE + 1))
    np.testing.assert_array_equal(np.sort(mask, axis=1)[:, ::-1], mask)
    assert not ids[mask == 0].any()
    assert ids.max() == 49
