"""Nodes timed by ONNX Runtime's profiler, under the names of the file."""

from collections.abc import Callable

import numpy as np
import onnx

from dfq_deploy.runtime.profile import node_times
from dfq_deploy.samples.samples import Samples


def test_times_are_those_of_the_nodes_of_the_file(model_of: Callable[..., onnx.ModelProto]) -> None:
    # Two products, of which the second one is 4 times as large; the rest is small.
    weights = {"a": np.ones((512, 512), np.float32), "b": np.ones((512, 2048), np.float32)}
    model = model_of("float[n,512] x", "float[n,2048] y", "m = MatMul(x, a) r = Softplus(m) y = MatMul(r, b)", weights)
    samples = Samples(np.ones((16, 512), np.float32))
    times = node_times(model, samples, runs=5)
    assert {entry.name for entry in times} == {"m", "r", "y"}
    assert times[0].name == "y"
    assert all(entry.milliseconds > 0 for entry in times)
    assert [entry.milliseconds for entry in times] == sorted((entry.milliseconds for entry in times), reverse=True)
    assert {entry.kernel for entry in times} == {"MatMul", "Softplus"}
