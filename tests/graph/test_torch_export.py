"""Modules instead of files: what is exported computes what the module does, and still has its BatchNormalization."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import dfq_deploy
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.query import batch_normalizations, score_count
from dfq_deploy.graph.torch_export import from_program, from_torch
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """Two normalized convolutions, one of them behind a residual connection, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = torch.relu(features + self.body(features))
        scores: Tensor = self.head(features.mean((2, 3)))
        return scores


@pytest.fixture
def net() -> Net:
    """In training mode, with running statistics that are not their defaults."""
    generator = torch.Generator().manual_seed(0)
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(8, generator=generator)
                module.running_var = 0.5 + torch.rand(8, generator=generator)
                module.weight.add_(1)
    return net.train()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (count, *SHAPE)).astype(np.float32)


def run(model: bytes | str, batch: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores: np.ndarray = session.run(None, {"input": batch})[0]
    return scores


def wanted(net: Net, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        scores: np.ndarray = copy.deepcopy(net).eval()(torch.from_numpy(batch)).numpy()
    return scores


def test_the_file_computes_what_the_module_does(net: Net) -> None:
    model = from_torch(net, SHAPE)
    for count in (1, 5):
        np.testing.assert_allclose(
            run(to_bytes(model), images(count)), wanted(net, images(count)), rtol=1e-4, atol=1e-4
        )


def test_normalization_is_kept_and_the_batch_is_open(net: Net) -> None:
    model = load(from_torch(net, SHAPE))
    assert len(batch_normalizations(model)) == 2
    for value in (model.graph.inputs[0], model.graph.outputs[0]):
        assert value.shape is not None
        assert isinstance(value.shape[0], ir.SymbolicDim)
    assert sample_shape(model) == SHAPE
    assert score_count(model) == 5


def test_the_module_stays_as_it_is(net: Net) -> None:
    net.double()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    from_torch(net, SHAPE)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float64}


def test_a_module_goes_through_every_step(net: Net, tmp_path: Path) -> None:
    assert dfq_deploy.inspect(net, input_shape=SHAPE).batch_normalizations == 2
    assert dfq_deploy.synthesize(net, input_shape=SHAPE, synth="noise", count=2).images.shape == (2, *SHAPE)
    samples = dfq_deploy.Samples(images(64) * np.linspace(0.3, 3, 64, dtype=np.float32)[:, None, None, None])
    result = dfq_deploy.calibrate(net, input_shape=SHAPE, data=samples, method="minmax", output=tmp_path / "out")
    float_scores = wanted(net, samples.images)
    int8_scores = run(str(result.model_path), samples.images)
    assert np.square(int8_scores - float_scores).mean() < 0.01 * float_scores.var(axis=0).mean()
    assert result.report["model"]["name"] == "Net"
    assert result.model_path is not None
    found = dfq_deploy.evaluate(net, result.model_path, samples, input_shape=SHAPE)
    assert found.float_model == "Net"
    agreement = 100 * (int8_scores.argmax(1) == float_scores.argmax(1)).mean()
    assert found.comparison.scores is not None
    assert found.comparison.scores.agreement == pytest.approx(agreement)


def test_a_module_may_be_the_teacher(net: Net) -> None:
    folded = load(from_torch(net, SHAPE))
    fold_batch_normalization(folded)
    method = DeepInversion(iterations=1)
    samples = dfq_deploy.synthesize(folded, synth=method, teachers=[net], count=2, input_shape=SHAPE)
    assert samples.method == "deepinversion"


def test_without_a_shape_the_way_out_is_said(net: Net) -> None:
    with pytest.raises(ModelError, match=r"^Net: a torch\.nn\.Module needs input_shape, the sizes of one sample"):
        dfq_deploy.inspect(net)


@pytest.mark.parametrize("shape", [(), (3, 0, 12)])
def test_a_shape_that_is_none(net: Net, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"^input_shape \(.*\): give the sizes of one sample, e\.g\. \(3, 224, 224\)$"):
        from_torch(net, shape)


def test_an_export_that_fails_is_one_line(net: Net) -> None:
    words = r"^torch cannot export Net with an input of shape \(2, 4, 12, 12\): .*expected input.*; check input_shape"
    with pytest.raises(ModelError, match=words) as caught:
        from_torch(net, (4, 12, 12))
    assert "\n" not in str(caught.value)


def traced(module: nn.Module, *given: Any, **dynamic: Any) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        return torch.export.export(module.eval(), *given, **dynamic)


def program(net: Net, **dynamic: Any) -> ExportedProgram:
    return traced(copy.deepcopy(net), (torch.zeros(2, *SHAPE),), **dynamic)


def test_a_program_computes_what_the_module_does(net: Net) -> None:
    model = from_program(program(net, dynamic_shapes=({0: torch.export.Dim("n")},)))
    for count in (1, 5):
        scores = ort.InferenceSession(to_bytes(model)).run(["output"], {"images": images(count)})[0]
        np.testing.assert_allclose(scores, wanted(net, images(count)), rtol=1e-4, atol=1e-4)
    assert len(batch_normalizations(load(model))) == 2
    assert str(model.graph.inputs[0].shape) == "[batch,3,12,12]"


def test_sizes_that_a_program_fixes_stay_fixed(net: Net) -> None:
    assert str(from_program(program(net)).graph.inputs[0].shape) == "[2,3,12,12]"


def test_a_program_with_keywords_and_several_outputs() -> None:
    class Two(nn.Module):
        def forward(self, first: Tensor, *, second: Tensor) -> tuple[Tensor, Tensor]:
            return first @ second, first + 1

    size = torch.export.Dim("size")
    given = (torch.randn(3, 4),), {"second": torch.randn(4, 3)}
    made = traced(Two(), *given, dynamic_shapes={"first": {0: size}, "second": {1: size}})
    model = from_program(made)
    assert [(value.name, str(value.shape)) for value in model.graph.inputs] == [
        ("first", "[batch,4]"),
        ("second", "[4,batch]"),
    ]
    feeds = {"first": np.ones((2, 4), np.float32), "second": np.full((4, 2), 3, np.float32)}
    product, total = ort.InferenceSession(to_bytes(model)).run(["output_0", "output_1"], feeds)
    np.testing.assert_array_equal(product, np.full((2, 2), 12))
    np.testing.assert_array_equal(total, np.full((2, 4), 2))


def test_a_program_goes_through_every_step(net: Net, tmp_path: Path) -> None:
    made = program(net, dynamic_shapes=({0: torch.export.Dim("n")},))
    assert dfq_deploy.inspect(made).batch_normalizations == 2
    result = dfq_deploy.calibrate(made, synth="noise", count=16, output=tmp_path / "out")
    assert result.model_path is not None
    found = dfq_deploy.evaluate(made, result.model_path, dfq_deploy.Samples(images(16)))
    assert found.comparison.count == 16


def test_a_program_that_was_decomposed_has_a_way_out(net: Net) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        decomposed = program(net).run_decompositions()
    words = r"^torch cannot export this program: .*native_batch_norm.*; give the module itself, or write the file with"
    with pytest.raises(ModelError, match=words) as caught:
        from_program(decomposed)
    assert "\n" not in str(caught.value)


def test_a_program_with_another_input_than_tensors(net: Net) -> None:
    class Scaled(nn.Module):
        def forward(self, values: Tensor, factor: int) -> Tensor:
            return values * factor

    made = traced(Scaled(), (torch.zeros(2, 3), 4))
    with pytest.raises(ModelError, match=r"^torch\.export program with the inputs values, 4: all have to be tensors$"):
        from_program(made)
