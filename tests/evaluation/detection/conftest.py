"""A detector of white squares: one class, a grid of 8 by 8 cells of 8 pixels, boxes as YOLOv8 writes them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.conftest import _model_of

NODES = """s = Conv<strides=[8,8]>(x, ws, bs) s1 = Sigmoid(s) s2 = Reshape(s1, one)
 b = Conv<strides=[8,8]>(x, wb, bb) b1 = Reshape(b, four) b2 = Add(b1, grid) b3 = Mul(b2, stride)
 y = Concat<axis=1>(b3, s2)"""


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector's file: takes 0 to 1, answers (N, 5, 64)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8].reshape(2, 1, 64) + 0.5
    sizes = np.ones((2, 64))
    weights = {
        "ws": np.full((1, 3, 8, 8), 12 / 192, np.float32),
        "bs": np.full(1, -6, np.float32),
        "wb": rng.normal(0, 1e-5, (4, 3, 8, 8)).astype(np.float32),
        "bb": np.array([0.01, -0.01, 0.02, -0.02], np.float32),
        "grid": np.concatenate([columns, rows, sizes]).reshape(1, 4, 64).astype(np.float32),
        "stride": np.array(8, np.float32),
        "one": np.array([0, 1, 64]),
        "four": np.array([0, 4, 64]),
    }
    path = tmp_path_factory.mktemp("squares") / "squares.onnx"
    onnx.save(_model_of("float[n,3,64,64] x", "float[n,5,64] y", NODES, weights), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[tuple[int, int, int, int]]]]:
    """A folder of pictures 128 pixels wide and 64 high, whose middle the detector sees, and the squares of each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    squares = []
    for index in range(8):
        image = np.zeros((64, 128, 3), np.uint8)
        cells = rng.choice(64, 3, replace=False)
        boxes = [(32 + 8 * int(cell % 8), 8 * int(cell // 8), 8, 8) for cell in cells]
        for left, top, width, height in boxes:
            image[top : top + height, left : left + width] = 255
        Image.fromarray(image).save(folder / f"{index}.png")
        squares.append(boxes)
    return folder, squares
