"""Held-out inputs: never those that calibrate, at any count."""

import numpy as np
import pytest

from dfq_deploy import Preprocess, Samples
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.agreement.held_out import held_out_sets
from tests.conftest import ModelOf, TinyModel

PIXELS = Preprocess((0.5,), (0.25,))


def _rows(samples: Samples) -> set[bytes]:
    return {image.tobytes() for image in samples.images}


@pytest.mark.parametrize("count", [1, 7, 8, 40])
def test_nothing_that_calibrates_is_held_out(tiny: TinyModel, count: int) -> None:
    model = load(tiny(size=16))
    made = synthesize_from(model, "procedural", (), count=count, preprocess=PIXELS, seed=3, device="cpu")
    used = _rows(split_held_out(made)[0])
    sets = held_out_sets(model, made, preprocess=PIXELS, seed=3, count=24)
    assert not any(_rows(held.samples) & used for held in sets)
    kinds = [(held.kind, len(held.samples)) for held in sets]
    assert kinds[-2:] == [("procedural", 12), ("photographs", 24)]
    assert kinds[:-2] == ([("procedural", count // 8)] if count >= 8 else [])


def test_kinds_that_calibrated_are_marked(tiny: TinyModel) -> None:
    model = load(tiny(size=16))
    images = np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)
    marked = {
        method: [held.calibrated for held in held_out_sets(model, Samples(images, method=method), count=8)]
        for method in ("", "deepinversion", "procedural", "photographs")
    }
    assert marked == {
        "": [True, False, False],
        "deepinversion": [True, False, False],
        "procedural": [True, True, False],
        "photographs": [True, False, True],
    }


def test_procedural_inputs_are_as_many_where_they_decide(tiny: TinyModel) -> None:
    model = load(tiny(size=16))
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    counts = {
        method: [len(held.samples) for held in held_out_sets(model, Samples(images, method=method), count=8)]
        for method in ("deepinversion", "photographs")
    }
    assert counts == {"deepinversion": [4, 8], "photographs": [8, 8]}


def test_real_data_keep_their_labels_and_other_sets_have_none(tiny: TinyModel) -> None:
    model = load(tiny(size=16))
    samples = Samples(np.ones((16, 3, 16, 16), np.float32), np.arange(16) % 4)
    data, drawn, pictures = held_out_sets(model, samples, count=8)
    assert data.kind == "data"
    assert data.samples.labels is not None
    np.testing.assert_array_equal(data.samples.labels, [3, 3])
    assert drawn.samples.labels is None
    assert pictures.samples.labels is None


def test_channels_last_images_get_photographs_of_their_shape(model_of: ModelOf) -> None:
    weight = np.ones((3, 2), np.float32)
    model = load(model_of("float[n,16,24,3] x", "float[n,16,24,2] y", "y = MatMul(x, w)", {"w": weight}))
    sets = held_out_sets(model, Samples(np.ones((8, 16, 24, 3), np.float32)), preprocess=PIXELS, count=8)
    assert [held.kind for held in sets] == ["data", "procedural", "photographs"]
    assert {held.samples.images.shape[1:] for held in sets} == {(16, 24, 3)}


@pytest.mark.parametrize(("shape", "kinds"), [((3, 32, 96), 1), ((3, 96, 96), 2), ((3, 80, 200), 2)])
def test_no_photographs_judge_where_a_line_of_text_is_read(
    model_of: ModelOf, shape: tuple[int, int, int], kinds: int
) -> None:
    size = ",".join(map(str, shape))
    model = load(model_of(f"float[n,{size}] x", f"float[n,{size}] y", "y = Relu(x)", {}))
    sets = held_out_sets(model, Samples(np.zeros((1, *shape), np.float32)), preprocess=PIXELS, count=4)
    assert [held.kind for held in sets] == ["procedural", "photographs"][:kinds]


def test_signals_are_drawn_by_rule_alone(model_of: ModelOf) -> None:
    weight = np.ones((100, 2), np.float32)
    model = load(model_of("float[n,100] x", "float[n,2] y", "y = MatMul(x, w)", {"w": weight}))
    sets = held_out_sets(model, Samples(np.ones((8, 100), np.float32), method="procedural"), count=8)
    assert [(held.kind, len(held.samples)) for held in sets] == [("procedural", 1), ("procedural", 8)]


@pytest.mark.parametrize(("size", "counts", "further"), [(16, (128, 256), (128, 256)), (80, (13, 52), (19, 76))])
def test_at_least_64_inputs_are_drawn_and_others_where_these_do_not_do(
    tiny: TinyModel, size: int, counts: tuple[int, int], further: tuple[int, int]
) -> None:
    sets = held_out_sets(load(tiny(size=size)), Samples(np.ones((1, 3, size, size), np.float32)), preprocess=PIXELS)
    assert tuple(len(held.samples) for held in sets) == counts
    assert sum(counts) >= 64
    more = [held.further() for held in sets if held.further is not None]
    assert tuple(len(samples) for samples in more) == further
    for held, samples in zip(sets, more, strict=True):
        assert not _rows(held.samples) & _rows(samples)
        assert held.further is not None
        np.testing.assert_array_equal(held.further().images, samples.images)
