"""What the tests share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.runtime.processor import lacks_vnni
from dfq_deploy.runtime.session import Session
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.verdict.assess import Subject
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.speed import count_findings
from examples.digits import data

CHECKOUT = Path(__file__).parents[1]

TinyModel = Callable[..., onnx.ModelProto]


DEFAULT_SESSION = ort.InferenceSession

if lacks_vnni():
    # Sessions that tests open by themselves give the same results as elsewhere.
    ort.InferenceSession = lambda model, sess_options=None, providers=("CPUExecutionProvider",): Session(
        model, sess_options or ort.SessionOptions(), providers
    )


SATURATING = "test_qnn_keeps_its_rules[computed-bias]"
"""A file for an NPU with weights that nodes share: its sums are not exact there (ONNX Runtime 1.31)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what no session computes exactly on this processor."""
    for item in items:
        if lacks_vnni() and item.nodeid.endswith(SATURATING):
            item.add_marker(pytest.mark.skip(reason="integer sums saturate on this processor, which has no VNNI"))


@pytest.fixture
def default_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions without options: for comparisons with .ort files, which have no exact sums without VNNI."""
    monkeypatch.setattr(ort, "InferenceSession", DEFAULT_SESSION)


ModelOf = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models gain nothing from more, and threads that wait for each other crawl beside other work."""
    torch.set_num_threads(1)
    load = Session._load

    def load_for_one(
        self: Session, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]
    ) -> None:
        options.intra_op_num_threads = options.intra_op_num_threads or 1
        load(self, model, options, providers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "_load", load_for_one)
        yield


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No calibration is timed: whether a tiny model is slower than float is the machine's luck.

    tests/verdict/test_speed.py tests the timing itself, tests/pipeline/remedies/test_faster.py what is done about it.
    """

    def counted(subject: Subject, kernels: KernelCount) -> tuple[Finding, ...]:
        return count_findings(kernels)

    monkeypatch.setattr("dfq_deploy.verdict.assess._speed", counted)
    monkeypatch.setattr("dfq_deploy.pipeline.remedies.attempts.Bench.speed", lambda bench, result: None)


@pytest.fixture(autouse=True)
def _no_remedies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models with made-up weights are below the floor: only the tests of remedies take the time for them."""
    if "remedies" not in request.path.parts:
        monkeypatch.setattr("dfq_deploy.pipeline.remedies.search.REMEDIES", ())


@pytest.fixture(autouse=True)
def _no_compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX is as if it were not installed: only its own tests depend on the machine, and take the time."""
    if request.path.name != "test_rtx.py":
        monkeypatch.setattr("dfq_deploy.runtime.tensorrt.rtx.rtx_version", lambda: "")


@pytest.fixture(autouse=True)
def _any_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of the processor that the tests run on, but by its own tests."""
    if request.path.name != "test_processor.py":
        for module in ("pipeline.figures", "evaluation.evaluate"):
            monkeypatch.setattr(f"dfq_deploy.{module}.saturation_warnings", lambda path, count: ())


@pytest.fixture(autouse=True)
def _no_trial(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the tests made themselves need no child process: only its own tests start one."""
    if "validation" not in request.path.parts:
        monkeypatch.setattr("dfq_deploy.graph.reading.try_file", lambda path: None)
        monkeypatch.setattr("dfq_deploy.graph.reading.complaint_about", lambda path: None)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository."""
    return CHECKOUT


@pytest.fixture(scope="session")
def zoo() -> Path:
    """Folder of real pretrained models and real images, where there is one beside the checkout."""
    folder = CHECKOUT / "../shared/zoo"
    if not (folder / "zoo.json").is_file():
        pytest.skip("no model zoo beside the checkout")
    return folder.resolve()


@pytest.fixture(scope="session")
def digits_bn() -> Path:
    """The example's network with its BatchNormalization."""
    return CHECKOUT / "examples/digits/digits_bn.onnx"


@pytest.fixture(scope="session")
def digits_folded() -> Path:
    """The same network with BatchNormalization folded into the convolutions."""
    return CHECKOUT / "examples/digits/digits.onnx"


@pytest.fixture(scope="session")
def model_of() -> ModelOf:
    """Builds a model from ONNX text: ``model_of("float[n,3] x", "float[n,2] y", "y = MatMul(x, w)", {"w": array})``.

    Keyword arguments: opset=17.
    """
    return _model_of


def _model_of(
    inputs: str, outputs: str, nodes: str, weights: Mapping[str, NDArray[np.generic]], *, opset: int = 17
) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = onnx.parser.parse_model(f"{head} graph ({inputs}) => ({outputs}) {{ {nodes} }}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


@pytest.fixture(scope="session")
def tiny() -> TinyModel:
    """Builds Conv-[BatchNormalization]-Relu-GlobalAveragePool-Flatten-Gemm with random weights.

    Keyword arguments: channels=3, size=8, classes=4, batch="batch" (or a number), normalized=True, opset=17, seed=0.
    """
    return _tiny


def _tiny(
    *,
    channels: int = 3,
    size: int | str = 8,
    classes: int = 4,
    batch: int | str = "batch",
    normalized: bool = True,
    opset: int = 17,
    seed: int = 0,
) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    width = 6

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    weights = {
        "conv.weight": normal(width, channels, 3, 3),
        "fc.weight": normal(classes, width),
        "fc.bias": normal(classes),
    }
    nodes = [helper.make_node("Conv", ["image", "conv.weight"], ["conv"], "conv", pads=[1, 1, 1, 1])]
    if normalized:
        parameters = ["bn.scale", "bn.bias", "bn.mean", "bn.var"]
        weights |= dict(
            zip(
                parameters,
                (1 + normal(width) ** 2, normal(width), normal(width), 0.5 + normal(width) ** 2),
                strict=True,
            )
        )
        nodes.append(helper.make_node("BatchNormalization", ["conv", *parameters], ["bn"], "bn"))
    nodes += [
        helper.make_node("Relu", [nodes[-1].output[0]], ["relu"], "relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["scores"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture(scope="session")
def digits(digits_bn: Path) -> Samples:
    """192 samples that are made from the network alone."""
    return synthesize(digits_bn, synth=DeepInversion(iterations=60), count=192, preprocess=data.PREPROCESS)


@pytest.fixture(scope="session")
def digits_int8(digits_bn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's network in 8 bits, a good file."""
    folder = tmp_path_factory.mktemp("digits") / "int8"
    calibrate(digits_bn, synth="procedural", count=64, preprocess=data.PREPROCESS, refine=["bias"], output=folder)
    return folder / "model.qdq.onnx"


@pytest.fixture(scope="session")
def held_out() -> Samples:
    """Real digits that nothing is trained on."""
    pictures = data.held_out()
    return Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
