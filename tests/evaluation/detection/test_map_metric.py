"""evaluate --metric map, against annotations and against the float model's own detections."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from dfq_deploy import Gates, ModelError, OptionError, Samples, SamplesError, calibrate, evaluate
from dfq_deploy.cli.main import main

Squares = list[list[tuple[int, int, int, int]]]
Pictures = tuple[Path, Squares]


@pytest.fixture(scope="module")
def quantized(squares: Path, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "out"
    calibrate(squares, data=pictures[0], preprocess="zero-one", output=folder)
    return folder / "model.qdq.onnx"


@pytest.fixture(scope="module")
def blind(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same file with one bias for scores that hides most of them."""
    model = onnx.load(quantized)
    for tensor in model.graph.initializer:
        if tensor.name == "bs_quantized":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    path = tmp_path_factory.mktemp("blind") / "blind.onnx"
    onnx.save(model, path)
    return path


def coco(pictures: Pictures, path: Path, *, moved: int = 0) -> Path:
    images = [{"id": 10 + index, "file_name": f"{index}.png"} for index in range(len(pictures[1]))]
    annotations = [
        {"id": 0, "image_id": 10 + index, "category_id": 7, "bbox": [left + moved, top, width, height], "iscrowd": 0}
        for index, boxes in enumerate(pictures[1])
        for left, top, width, height in boxes
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 7}]}))
    return path


def yolo(pictures: Pictures, folder: Path) -> Path:
    folder.mkdir()
    for index, boxes in enumerate(pictures[1]):
        lines = [f"0 {(left + w / 2) / 128} {(top + h / 2) / 64} {w / 128} {h / 64}" for left, top, w, h in boxes]
        (folder / f"{index}.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_map_against_annotations(squares: Path, quantized: Path, pictures: Pictures, tmp_path: Path, form: str) -> None:
    path = coco(pictures, tmp_path / "boxes.json") if form == "coco" else yolo(pictures, tmp_path / "labels")
    found = evaluate(
        squares, quantized, pictures[0], preprocess="zero-one", metric="map", annotations=path,
        gates=Gates(min_metric=0.95, max_drop=0.05),
    )  # fmt: skip
    assert found.metric is not None
    figures = found.metric.to_json()
    assert figures["float"] == pytest.approx(1.0)
    assert figures["quantized"] > 0.95
    assert (figures["objects"], figures["against"], figures["boxes"]) == (24, "annotations", "centers")
    assert found.verdict.status != "BAD"


def test_boxes_in_the_wrong_place_are_not_found(
    squares: Path, quantized: Path, pictures: Pictures, tmp_path: Path
) -> None:
    path = coco(pictures, tmp_path / "boxes.json", moved=3)
    found = evaluate(squares, quantized, pictures[0], preprocess="zero-one", metric="map", annotations=path)
    assert found.metric is not None
    assert found.metric.to_json()["float"] < 0.2


def test_what_float_finds_is_the_truth_without_annotations(
    squares: Path, quantized: Path, blind: Path, pictures: Pictures
) -> None:
    good, bad = (
        evaluate(squares, file, pictures[0], preprocess="zero-one", metric="map") for file in (quantized, blind)
    )
    assert good.metric is not None
    assert bad.metric is not None
    assert good.metric.to_json()["float_50"] == good.metric.to_json()["quantized_50"] == 1.0
    assert good.metric.to_json()["against"] == "float"
    assert bad.comparison.head is not None
    assert good.comparison.head is not None
    assert bad.comparison.head.best_quantized < 0.6 * bad.comparison.head.best_float
    assert bad.comparison.head.boxes_snr == good.comparison.head.boxes_snr
    assert bad.verdict.status == "BAD"
    assert any(one.code == "detector" and one.level == "BAD" for one in bad.verdict.findings)


def test_command_line(squares: Path, quantized: Path, pictures: Pictures, tmp_path: Path) -> None:
    path = coco(pictures, tmp_path / "boxes.json")
    arguments = ["evaluate", str(squares), str(quantized), "--data", str(pictures[0]), "--preprocess", "zero-one"]
    result = CliRunner().invoke(main, [*arguments, "--metric", "map", "--annotations", str(path)])
    assert result.exit_code == 0, result.output
    assert "mAP@0.5:0.95" in result.output
    assert "overlap float's by 100.0 %" in " ".join(result.output.split())
    assert CliRunner().invoke(main, [*arguments, "--metric", "mAP"]).exit_code == 2
    refused = CliRunner().invoke(main, [*arguments, "--annotations", str(path)])
    assert refused.exit_code == 1
    assert "--annotations are for --metric map" in refused.output


def test_what_cannot_be_measured(
    squares: Path, quantized: Path, pictures: Pictures, tmp_path: Path, digits_folded: Path
) -> None:
    black = Samples(np.zeros((4, 3, 64, 64), np.float32))
    with pytest.raises(OptionError, match=r"detects nothing in these 4 samples \(highest score 0, 0\.25 is an object"):
        evaluate(squares, quantized, black, metric="map")
    with pytest.raises(ModelError, match="are known to be boxes and scores"):
        evaluate(digits_folded, digits_folded, count=4, metric="map")
    path = tmp_path / "boxes.json"
    path.write_text("{}")
    with pytest.raises(SamplesError, match=r"no annotations of COCO \(KeyError: 'images'\)"):
        evaluate(squares, quantized, pictures[0], preprocess="zero-one", metric="map", annotations=path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SamplesError, match="no object in any of the 8 images"):
        evaluate(squares, quantized, pictures[0], preprocess="zero-one", metric="map", annotations=tmp_path / "empty")
