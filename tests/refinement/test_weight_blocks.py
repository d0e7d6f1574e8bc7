"""Weights in blocks: the rounding, the file, and what ONNX Runtime makes of it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy import OptionError, Samples, calibrate
from dfq_deploy.quantization.weight_blocks import BLOCK, round_block
from dfq_deploy.refinement.weight_blocks import in_blocks

Floats = NDArray[np.float32]

WIDTH, HIDDEN = 240, 320
"""No multiple of BLOCK, and one; either matrix is large enough to be worth it."""


def correlated(rows: int, width: int, seed: int = 0) -> Floats:
    """Inputs whose columns depend on each other, as activations do."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((12, width))
    factors = generator.standard_normal((rows, 12)) @ mixing
    return np.asarray(factors + 0.3 * generator.standard_normal((rows, width)), np.float32)


def weights(*shape: int) -> Floats:
    return np.asarray(np.random.default_rng(5).standard_normal(shape) / np.sqrt(shape[0]), np.float32)


def network() -> onnx.ModelProto:
    """A MatMul and a Gemm with a bias and a transposed weight, with a Relu between, open in the number of rows."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 240] x) => (float[n, 300] y) '
        "{ h = MatMul(x, w) r = Relu(h) y = Gemm<transB = 1>(r, v, b) }"
    )
    proto = onnx.parser.parse_model(text)
    arrays = {"w": weights(WIDTH, HIDDEN), "v": weights(300, HIDDEN), "b": np.linspace(-1, 1, 300, dtype=np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node, name in zip(proto.graph.node, ("first", "relu", "second"), strict=True):
        node.name = name
    return proto


def output_error(matrix: Floats, rounded: Floats, inputs: Floats) -> float:
    return float(np.square(inputs @ (matrix - rounded).T).mean() / np.square(inputs @ matrix.T).mean())


@pytest.mark.parametrize("bits", [4, 8])
def test_each_block_is_rounded_to_its_own_grid(bits: int) -> None:
    matrix = weights(48, WIDTH)
    found = in_blocks(matrix, bits)
    assert found.codes.shape == (48, -(-WIDTH // BLOCK), BLOCK)
    assert int(found.codes.max()) <= 2**bits - 1
    steps = found.scale.repeat(BLOCK, axis=1)[:, :WIDTH]
    assert (np.abs(found.matrix - matrix) <= steps * (0.5 + 1e-3)).mean() > (0.95 if bits == 4 else 0.99)


def test_what_fills_up_the_last_block_is_zero() -> None:
    found = in_blocks(weights(16, 40), 4)
    values = found.codes[:, -1, 8:].astype(int) - found.zero_point[:, -1, None]
    assert not values.any()


def test_a_clipped_range_serves_the_inputs_that_count() -> None:
    values = np.array([[0.1, -0.12, 0.07, 0.05, 3.0]])
    plain, _ = round_block(values, 4, np.ones(5))
    clipped, _ = round_block(values, 4, np.array([1e4, 1e4, 1e4, 1e4, 1.0]))
    assert clipped[0] < plain[0]


def test_later_inputs_make_up_for_the_errors_of_earlier_ones() -> None:
    matrix, inputs = weights(64, WIDTH), correlated(2000, WIDTH)
    products = (inputs.T @ inputs / len(inputs)).astype(np.float64)
    nearest, made_up = (in_blocks(matrix, 4, given).matrix for given in (None, products))
    unseen = correlated(2500, WIDTH)[2000:]
    assert output_error(matrix, made_up, unseen) < 0.5 * output_error(matrix, nearest, unseen)


def test_an_input_that_is_always_zero_breaks_nothing() -> None:
    inputs = correlated(500, 64)
    inputs[:, 7] = 0
    found = in_blocks(weights(8, 64), 4, (inputs.T @ inputs / 500).astype(np.float64))
    assert np.isfinite(found.matrix).all()


@pytest.mark.parametrize(("bits", "least", "size"), [("w4a8", 20.0, 0.2), ("w8a8", 34.0, 0.35)])
def test_the_file_that_is_written(bits: str, least: float, size: float, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    rows = correlated(96, WIDTH)
    result = calibrate(path, data=Samples(rows), bits=bits, activations="float", floor="none", output=tmp_path / "out")
    model = onnx.load(result.model_path or "")
    assert [node.op_type for node in model.graph.node] == ["MatMulNBits", "Relu", "MatMulNBits", "Add"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    unseen = correlated(160, WIDTH)[96:]
    wanted, given = (
        ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"x": unseen})[0]
        for file in (path, result.model_path)
    )
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - given).sum()) > least
    assert (result.model_path or path).stat().st_size < size * path.stat().st_size
    kernels = result.report.kernels
    assert kernels is not None
    assert kernels.integer + kernels.weight_only == 2


def test_what_has_no_large_matrix_or_another_target_or_width_is_refused(digits_folded: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the model has none"):
        calibrate(digits_folded, synth="procedural", count=8, activations="float")
    with pytest.raises(OptionError, match="reads no weights in blocks"):
        calibrate(digits_folded, synth="procedural", count=8, activations="float", target="tensorrt")
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    with pytest.raises(OptionError, match="weights of 5 bits"):
        calibrate(path, data=Samples(correlated(16, WIDTH)), bits="w5a8", activations="float")
