"""Boxes in pixels from what detectors write."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.detection.decoder import decoder_for
from dfq_deploy.evaluation.detection.grids import grid_of
from dfq_deploy.graph.detection import HeadPart, Role

SIZE = (64, 96)
"""Height and width: 8 x 12 cells of 8 pixels, 4 x 6 of 16, 2 x 3 of 32."""

CELLS = 96 + 24 + 6


def part(output: str, start: int, stop: int, role: Role, *, raw: bool = False, objectness: bool = False) -> HeadPart:
    return HeadPart(output, 2, start, stop, role, raw, objectness)


def scores(rows: int = CELLS, classes: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(0.1, 0.9, (1, rows, classes))


def test_grids() -> None:
    assert grid_of(CELLS, SIZE) == ((8, 1), (16, 1), (32, 1))
    assert grid_of(3 * CELLS, SIZE) == ((8, 3), (16, 3), (32, 3))
    assert grid_of(896, (128, 128), uniform=False) == ((8, 2), (16, 6))
    assert grid_of(2016, (192, 192), uniform=False) == ((8, 2), (16, 6))
    assert grid_of(24, SIZE, single=True) == ((16, 1),)
    assert grid_of(101, SIZE) == ()


def test_corners_and_centers_in_pixels_and_shares() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (1, CELLS, 2))
    corners = np.concatenate([low, low + rng.uniform(2, 8, low.shape)], axis=2)
    centers = np.concatenate([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], axis=2)
    shares = corners / np.array([96, 64, 96, 64])
    for written, kind in ((corners, "corners"), (centers, "centers"), (shares, "corners")):
        outputs = {"boxes": written, "scores": scores()}
        decoder = decoder_for([part("boxes", 0, 4, "boxes"), part("scores", 0, 3, "scores")], outputs, SIZE)
        assert decoder.kind == kind
        assert decoder.boxes(outputs) == pytest.approx(corners)
        assert np.array_equal(decoder.scores(outputs), outputs["scores"])


def test_cells_and_objectness_of_yolox() -> None:
    values = np.concatenate([np.zeros((1, CELLS, 4)), scores(classes=4)], axis=2)
    values[0, 13, :4] = [0.5, 0.25, np.log(2), np.log(4)]
    parts = [part("y", 0, 4, "boxes", raw=True), part("y", 4, 8, "scores", objectness=True)]
    decoder = decoder_for(parts, {"y": values}, SIZE)
    x, y = (1 + 0.5) * 8, (1 + 0.25) * 8  # row 1, column 1 of the first level
    assert decoder.boxes({"y": values})[0, 13] == pytest.approx([x - 8, y - 16, x + 8, y + 16])
    assert decoder.scores({"y": values})[0] == pytest.approx(values[0, :, 5:] * values[0, :, 4:5])


def test_distributions_of_gfl() -> None:
    logits = np.zeros((1, CELLS, 4, 8))
    logits[..., 0] = 50
    logits[0, 96, :, :] = np.eye(8)[[1, 2, 3, 4]] * 50  # the first cell of 16 pixels: left 1, top 2, right 3, bottom 4
    outputs = {"y": np.concatenate([scores(), logits.reshape(1, CELLS, 32)], axis=2)}
    parts = [part("y", 0, 3, "scores"), part("y", 3, 35, "boxes", raw=True)]
    decoder = decoder_for(parts, outputs, SIZE)
    assert decoder.kind == "distributions"
    assert decoder.boxes(outputs)[0, 96] == pytest.approx([8 - 16, 8 - 32, 8 + 48, 8 + 64])


def test_levels_in_outputs_of_their_own() -> None:
    outputs = {f"s{rows}": scores(rows) for rows in (96, 24)} | {f"b{rows}": np.ones((1, rows, 4)) for rows in (96, 24)}
    parts = [
        part(name, 0, array.shape[2], "scores" if name[0] == "s" else "boxes", raw=True)
        for name, array in outputs.items()
    ]
    decoder = decoder_for(parts, outputs, SIZE)
    assert decoder.kind == "distances"
    assert decoder.boxes(outputs)[0, 96] == pytest.approx([8 - 16, 8 - 16, 8 + 16, 8 + 16])
    assert decoder.scores(outputs).shape == (1, 120, 3)


def test_logits_and_a_background() -> None:
    boxes = np.random.default_rng(1).uniform(0, 60, (1, CELLS, 4))
    logits = scores() * 10 - 5
    softmax = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    parts = [part("b", 0, 4, "boxes"), part("s", 0, 3, "scores")]
    found = {}
    for name, written in (("l", logits), ("p", softmax)):
        outputs = {"b": boxes, "s": written}
        found[name] = decoder_for(parts, outputs, SIZE).scores(outputs)
    assert found["l"] == pytest.approx(1 / (1 + np.exp(-logits)))
    assert np.array_equal(found["p"], softmax[..., 1:])


def test_boxes_that_need_anchors_are_refused() -> None:
    outputs = {"b": np.random.default_rng(0).normal(0, 1, (1, 3 * CELLS, 4)), "s": scores(3 * CELLS)}
    with pytest.raises(ModelError, match=r"output 'b' \(378 rows of 4\) need anchors that are no part of the model"):
        decoder_for([part("b", 0, 4, "boxes", raw=True), part("s", 0, 3, "scores")], outputs, SIZE)
