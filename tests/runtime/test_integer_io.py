"""The integers that a file describes in its metadata, which come from anywhere."""

import json
from typing import Any

import numpy as np
import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.runtime.integer_io import METADATA, IntegerTranslation
from dfq_deploy.samples.preprocess import PREPROCESS, Preprocess

PIXELS: dict[str, Any] = {"type": "uint8", "axis": 1, "mean": [0.5], "std": [0.25]}
SCORES: dict[str, Any] = {"type": "int8", "scale": 0.5, "zero_point": -3}


def described(document: object) -> dict[str, str]:
    return {METADATA: json.dumps(document)}


def test_floats_become_integers_and_come_back() -> None:
    found = IntegerTranslation.of(described({"inputs": {"image": PIXELS}, "outputs": {"scores": SCORES}}), "m.onnx")
    images = (np.array([[[[0, 255], [51, 500]]]], np.float32) / 255 - 0.5) / 0.25
    assert found.to_integers({"image": images})["image"].tolist() == [[[[0, 255], [51, 255]]]]
    (scores,) = found.to_floats(["scores"], [np.array([-3, 7], np.int8)])
    assert scores.tolist() == [0, 5]
    assert IntegerTranslation.of({}, "m.onnx") == IntegerTranslation()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "1", "null", "[1]", "[" * 100_000),
        *('{"x": 1}', '{"inputs": 1}', '{"inputs": {"image": 1}}', '{"inputs": {"image": {"type": "float32"}}}'),
        json.dumps({"inputs": {"image": {**SCORES, "scale": "x"}}}),
        json.dumps({"inputs": {"image": {**SCORES, "scale": 0}}}),
        json.dumps({"outputs": {"scores": {**SCORES, "zero_point": [1]}}}),
        json.dumps({"outputs": {"scores": {**SCORES, "zero_point": 1e400}}}),
        json.dumps({"inputs": {"image": {**PIXELS, "std": [0]}}}),
        json.dumps({"inputs": {"image": {**PIXELS, "mean": [[1]]}}}),
    ],
)
def test_other_descriptions_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match=rf"^m\.onnx: its metadata '{METADATA}' cannot be read \(.*\); remove that"):
        IntegerTranslation.of({METADATA: text}, "m.onnx")


def test_an_axis_that_the_input_does_not_have() -> None:
    found = IntegerTranslation.of(described({"inputs": {"image": {**PIXELS, "axis": 4}}}), "m.onnx")
    with pytest.raises(ModelError, match=r"^'image': its metadata .* has axis 4, and it has 2 axes"):
        found.to_integers({"image": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize("text", ["", "1", "[1]", "{}", '{"mean": "a", "std": "b"}', '{"mean": [1, 2], "std": [1]}'])
def test_a_normalization_that_is_none(text: str) -> None:
    with pytest.raises(ModelError, match=rf"^the model's metadata '{PREPROCESS}' cannot be read \("):
        Preprocess.of({PREPROCESS: text})
