"""The runner against a plain session whose outputs are all tensors."""

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from dfq_deploy.calibrators.minmax import MinMax
from dfq_deploy.calibrators.percentile import Percentile
from numpy.typing import NDArray

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import ModelError, SamplesError
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.progress import Progress
from dfq_deploy.runtime import activations as runner
from dfq_deploy.runtime.activations import SLICE_ELEMENTS, activations
from dfq_deploy.runtime.session import RUNTIME_ERRORS, Session
from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.budget import ENOUGH, noted

Tiny = Callable[..., onnx.ModelProto]
ModelOf = Callable[..., onnx.ModelProto]

U8 = QuantType(8, signed=False, symmetric=False)
WANTED = ["image", "conv", "relu", "pool", "flat", "scores"]


def _images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def _plain(proto: onnx.ModelProto, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """All tensors of a straightforward run, no optimisation, whole batch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    names = [name for node in proto.graph.node for name in node.output]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {**dict(zip(names, session.run(names, {"image": images}), strict=True)), "image": images}


def _streamed(model: Any, names: list[str], batches: Any) -> dict[str, NDArray[Any]]:
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for tensors in runner.activations(model, names, batches):
        for name, tensor in tensors.items():
            parts[name].append(tensor)
    return {name: np.concatenate(found) for name, found in parts.items()}


@pytest.mark.parametrize("sizes", [[10], [3, 3, 3, 1], [1, 0, 9], [10, 0]])
@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_all_tensors_of_all_samples_in_order(tiny: Tiny, batch: int | str, sizes: list[int]) -> None:
    images = _images(10)
    expected = _plain(tiny(normalized=False), images)
    ends = np.cumsum([0, *sizes])
    batches = [{"image": images[a:b]} for a, b in pairwise(ends)]
    found = _streamed(load(tiny(normalized=False, batch=batch)), WANTED, batches)
    for name in WANTED:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


def test_large_batches_are_run_in_slices(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(23)
    model = load(tiny(normalized=False))
    # conv alone: 6 x 8 x 8 elements a sample.
    monkeypatch.setattr(runner, "SLICE_ELEMENTS", 5 * 384)
    lengths = [len(tensors["conv"]) for tensors in runner.activations(model, ["conv"], iter([{"image": images}]))]
    assert lengths == [5, 5, 5, 5, 3]


def test_a_slice_that_takes_too_much_memory_runs_in_halves(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    images, plain = _images(9), Session.run

    def limited(session: Any, names: list[str], feeds: dict[str, NDArray[Any]]) -> Any:
        if len(feeds["image"]) > allowed:
            raise RUNTIME_ERRORS[-1](
                "[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"
            )
        return plain(session, names, feeds)

    expected, model = _plain(tiny(normalized=False), images)["conv"], load(tiny(normalized=False))
    monkeypatch.setattr(Session, "run", limited)
    allowed = 5
    with noted() as notes:
        np.testing.assert_allclose(_streamed(model, ["conv"], [{"image": images}])["conv"], expected, atol=1e-5)
    assert notes == ["calibration ran out of memory on 9 samples at once, and took half of them"]
    allowed = 4
    with pytest.raises(SamplesError, match="Failed to allocate memory"):
        _streamed(model, ["conv"], [{"image": images}])


def test_a_small_budget_takes_fewer_samples_at_once(tiny: Tiny) -> None:
    images, model = _images(9), load(tiny(normalized=False))
    expected = _plain(tiny(normalized=False), images)["conv"]
    elements = expected[0].size
    memory = ENOUGH * 3 * elements // SLICE_ELEMENTS + 1
    with use_bounds(Bounds(memory=memory)), noted() as notes:
        slices = [tensors["conv"] for tensors in activations(model, ["conv"], [{"image": images}])]
    assert [len(part) for part in slices] == [3, 3, 3]
    np.testing.assert_allclose(np.concatenate(slices), expected, atol=1e-5)
    (said,) = notes
    assert said.startswith("--max-memory leaves ")
    assert said.endswith(f"so 3 samples ran at once instead of {SLICE_ELEMENTS // elements}")


def test_the_callers_model_stays_as_it_is(tiny: Tiny) -> None:
    model = load(tiny())
    before = to_bytes(model)
    MinMax().ranges(model, dict.fromkeys(["conv", "scores"], U8), [{"image": _images(2)}])
    assert to_bytes(model) == before


def test_minmax_and_percentile_of_a_whole_run(tiny: Tiny) -> None:
    images = _images(50)
    expected = _plain(tiny(normalized=False), images)
    batches = [{"image": images[start : start + 7]} for start in range(0, 50, 7)]
    model, tensors = load(tiny(normalized=False)), dict.fromkeys(WANTED, U8)
    spans = MinMax().ranges(model, tensors, iter(batches))
    clipped = Percentile(98.0).ranges(model, tensors, iter(batches))
    assert list(spans) == list(clipped) == WANTED
    for name in WANTED:
        values = expected[name]
        assert (spans[name].low, spans[name].high) == pytest.approx((values.min(), values.max()), abs=1e-5)
    assert clipped["relu"].high == pytest.approx(np.percentile(expected["relu"], 98), rel=0.01)
    assert clipped["conv"].low == pytest.approx(np.percentile(expected["conv"], 1), rel=0.01)


def test_only_the_slice_in_hand_and_the_next_are_alive(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SLICE_ELEMENTS", 1)
    fed: list[weakref.ref[Any]] = []

    def batches() -> Iterator[dict[str, NDArray[np.float32]]]:
        for seed in range(40):
            images = _images(1, seed)
            fed.append(weakref.ref(images))
            yield {"image": images}

    seen: list[weakref.ref[Any]] = []
    most = 0
    for tensors in runner.activations(load(tiny(normalized=False)), ["conv"], batches()):
        seen.append(weakref.ref(tensors["conv"]))
        del tensors
        gc.collect()
        most = max(most, sum(ref() is not None for ref in fed), sum(ref() is not None for ref in seen))
    assert len(seen) == 40
    assert most <= 3


class _Log(Progress):
    def __init__(self) -> None:
        self.total = -1
        self.done = 0

    def start(self, task: str, total: int) -> None:
        self.total = total

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.done += steps


def test_progress_counts_samples(tiny: Tiny) -> None:
    batches = [{"image": _images(4)}] * 3
    for given, total in ((batches, 12), (iter(batches), 0)):
        log = _Log()
        MinMax().ranges(load(tiny()), {"conv": U8}, given, log)
        assert (log.total, log.done) == (total, 12)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], r"^samples: none to calibrate with; at least one is needed$"),
        ([{"image": np.zeros((0, 3, 8, 8), np.float32)}], r"^samples: none to calibrate with"),
        ([{"picture": _images(1)}], r"^samples: no batch for input 'image'; fed picture$"),
        ([{"image": _images(1), "mask": _images(1)}], r"^samples: fed image, mask, but the model's inputs are image$"),
        (
            [{"image": np.zeros((1, 5, 8, 8), np.float32)}],
            r"^samples: ONNX Runtime cannot run the model on them \(.+\)$",
        ),
        ([{"image": np.zeros((1, 3, 8, 8))}], r"^samples: ONNX Runtime cannot run the model on them \(.+\)$"),
        ([{"image": np.full((1, 3, 8, 8), np.nan, np.float32)}], r"^tensor 'scores': NaN or infinity among its values"),
    ],
)
def test_samples_that_do_not_fit(tiny: Tiny, batches: Any, message: str) -> None:
    for calibrator in (MinMax(), Percentile()):
        with pytest.raises(SamplesError, match=message):
            calibrator.ranges(load(tiny(normalized=False)), {"scores": U8}, batches)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "^tensor 'nowhere' is not in the model's main graph; leave it out$"),
        ("conv.weight", "^tensor 'conv.weight' is an initializer: its range is read from its values; leave it out$"),
    ],
)
def test_tensors_that_are_not_there(tiny: Tiny, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        MinMax().ranges(load(tiny()), {name: U8}, [{"image": _images(1)}])


def test_indices_behind_what_they_index_are_said_with_a_range_that_fits(model_of: ModelOf) -> None:
    """As the edges of a graph, which name its nodes."""
    model = load(model_of("float[n,4] x, int64[2,e] edges", "float y", "y = Gather(x, edges)", {}))
    feeds = {"x": np.ones((1, 4), np.float32), "edges": np.array([[0, 1, 0], [0, 0, 1]])}
    with pytest.raises(SamplesError, match=r"; draw indices that fit, e\.g\. --input-range edges:0,0$"):
        list(activations(model, ["y"], [feeds]))
