"""Front ends that make a spectrum of a wave: which nodes belong to them, and what it is worth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.quantization.placement.spectral import spectral_nodes
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

BINS, WINDOW = 16, 32


def _fourier() -> NDArray[np.float32]:
    """Kernels (2 BINS, 1, WINDOW): cosines, then sines."""
    angles = 2 * np.pi * np.outer(np.arange(BINS), np.arange(WINDOW)) / WINDOW
    return np.concatenate([np.cos(angles), np.sin(angles)])[:, None].astype(np.float32)


POWER = "f = Conv <strides = [16]> (x, fourier) q = Mul(f, f) re, im = Split <axis = 1> (q, halves) p = Add(re, im) "
NETWORK = "c = Conv(s, w) r = Relu(c) m = Conv(r, v) y = ReduceMean <axes = [2], keepdims = 0> (m)"
FRONTS = {
    "logarithm": (POWER + "e = Add(p, tiny) s = Log(e) ", ["Conv_0"]),
    "magnitude": (POWER + "s = Sqrt(p) ", ["Conv_0", "Conv_5"]),
    "root and logarithm": (POWER + "a = Sqrt(p) e = Add(a, tiny) s = Log(e) ", ["Conv_0"]),
    "norm": (POWER + "a = Sqrt(p) e = Add(a, tiny) s = Div(p, e) ", []),
    "activation": (
        "f = Conv <strides = [16]> (x, fourier) g = Relu(f) q = Mul(g, g) h = MatMul(mix, q) s = Sqrt(h) ",
        [],
    ),
    "no square": ("f = Conv <strides = [16]> (x, fourier) g = Softplus(f) h = MatMul(mix, g) s = Log(h) ", []),
}


def build(model_of: ModelOf, front: str, shape: str = "n,1,512") -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[np.generic]] = {
        "fourier": _fourier(),
        "halves": np.array([BINS, BINS]),
        "tiny": np.array(1e-4, np.float32),
        "mix": np.abs(rng.normal(size=(BINS, 2 * BINS))).astype(np.float32),
        "w": rng.normal(0, 0.2, (8, BINS, 3)).astype(np.float32),
        "v": rng.normal(0, 0.2, (4, 8, 1)).astype(np.float32),
    }
    text = front + NETWORK
    return model_of(f"float[{shape}] x", "float[n,4] y", text, {k: v for k, v in weights.items() if k in text})


@pytest.mark.parametrize("name", FRONTS)
def test_what_belongs_to_a_front_end(model_of: ModelOf, name: str) -> None:
    front, nodes = FRONTS[name]
    assert [node.name for node in spectral_nodes(load(build(model_of, front)))] == nodes


def test_what_is_counted_from_shapes_is_no_spectrum(model_of: ModelOf) -> None:
    """As T5 does: the logarithm of the distance of tokens, by which an attention is shifted."""
    nodes = """
        k = MatMul(x, key) t = Shape(k) l = Cast <to = 1> (t) d = Abs(l) e = Log(d) s = ReduceSum(e)
        a = Add(k, s) y = MatMul(a, out)"""
    weights = {name: np.ones((8, 8), np.float32) for name in ("key", "out")}
    assert spectral_nodes(load(model_of("float[n,t,8] x", "float[n,t,8] y", nodes, weights))) == {}


def test_pictures_have_no_spectra(model_of: ModelOf) -> None:
    text = "f = Conv(x, w) q = Mul(f, f) e = Add(q, tiny) y = Log(e)"
    weights = {"w": np.ones((2, 3, 3, 3), np.float32), "tiny": np.array(1e-4, np.float32)}
    assert spectral_nodes(load(model_of("float[n,3,8,8] x", "float y", text, weights))) == {}


def test_a_quiet_wave_survives_beside_loud_ones(model_of: ModelOf, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    waves = rng.normal(size=(32, 1, 512)) * 10 ** rng.uniform(-3, 0, (32, 1, 1))
    found = calibrate(
        build(model_of, FRONTS["logarithm"][0]), data=Samples(waves.astype(np.float32)), output=tmp_path / "out"
    )
    (output,) = found.report["comparison"]["outputs"]
    assert output["snr_db"] > 25
    (left,) = found.report["left_float"]
    assert left["name"] == "Conv_0"
    assert left["reason"].startswith("it computes or reads a spectrum, of which")
