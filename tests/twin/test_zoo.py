"""The twin against ONNX Runtime on real models."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.twin import Twin

MODELS = sorted((Path(__file__).parents[2] / "../shared/zoo/models").glob("*.onnx"))


@pytest.mark.skipif(not MODELS, reason="the model zoo is not beside the checkout")
@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_logits_equal_those_of_onnx_runtime(path: Path) -> None:
    twin = Twin.from_model(load(path))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (described,) = session.get_inputs()
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        x = rng.standard_normal((batch, *described.shape[1:]), dtype=np.float32)
        expected = session.run(None, {described.name: x})[0]
        with torch.no_grad():
            logits = twin(torch.from_numpy(x))
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == expected.shape
        assert np.abs(logits.numpy() - expected).max() < 1e-4
